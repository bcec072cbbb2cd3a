package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	updates "bulkhead/services/update/api"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

// How long a box may take to come back and decide: starting twice, the health check's
// three minutes, and what slow firmware takes.
const (
	pushPatience = 12 * time.Minute
	pushLook     = 2 * time.Second
	pushAnswer   = 10 * time.Second // for one look
)

func (a *app) pushCommand() *cobra.Command {
	var downgrade bool
	cmd := &cobra.Command{
		Use:   "push FILE.gaf",
		Short: "Update a box to a signed image",
		Long: `Send the image in FILE to a box. The box writes it beside the system that runs, restarts
into it once, and keeps it if everything works as before; otherwise the old system comes
back by itself. This command waits for that and says what became of it.

FILE must be signed by a key that the box trusts: bulkhead image sign FILE.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.push(ctx, args[0], downgrade)
		},
	}
	cmd.Flags().BoolVar(&downgrade, "allow-downgrade", false, "go back to an older image than has run on the box")
	return cmd
}

func (a *app) push(ctx context.Context, path string, downgrade bool) error {
	archive, err := gaf.Open(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	if archive.Manifest == nil {
		return fmt.Errorf("%s is not signed; sign it first: bulkhead image sign %s", path, path)
	}
	m, err := manifest.Parse(archive.Manifest)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	before, err := c.Status(ctx)
	if err != nil {
		return err
	}
	begin := updates.Begin{Manifest: archive.Manifest, Signatures: archive.Signatures, AllowDowngrade: downgrade}
	if err := c.Begin(ctx, begin); err != nil {
		return err
	}
	if err := a.upload(ctx, c, archive); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted: nothing changes on the box; push again")
		}
		return err
	}
	if err := c.Commit(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "version %s is on the box, which restarts into it\n", m.Version)
	last, err := a.await(ctx, c, before.Last)
	if err != nil {
		return err
	}
	return a.became(last)
}

// upload sends the parts of an image.
func (a *app) upload(ctx context.Context, c *updates.Client, archive *gaf.Archive) error {
	for _, part := range []struct {
		name string
		open func() (io.Reader, int64, error)
	}{{"kernel", archive.Kernel}, {"root", archive.Root}} {
		r, size, err := part.open()
		if err != nil {
			return err
		}
		b := a.newBar(fmt.Sprintf("%-6s", part.name), size)
		var done int64
		err = c.Put(ctx, part.name, r, size, func(sent int64) {
			done = sent
			b.set(sent)
		})
		if err != nil {
			b.end(-1)
			return fmt.Errorf("send the %s, of which %s of %s went: %w", part.name, megabytes(done), megabytes(size), err)
		}
		b.end(size)
	}
	return nil
}

// await waits until the box says what became of an update: something else than before.
func (a *app) await(ctx context.Context, c *updates.Client, before *updates.Outcome) (*updates.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, pushPatience)
	defer cancel()
	said := ""
	for {
		look, end := context.WithTimeout(ctx, pushAnswer)
		st, err := c.Status(look)
		end()
		if err == nil && !st.Trial && st.Last != nil && (before == nil || !st.Last.Time.Equal(before.Time)) {
			return st.Last, nil
		}
		word := "waiting until the box comes back"
		if err == nil && st.Trial {
			word = fmt.Sprintf("version %s runs, and is checked", st.Version)
			if len(st.Waiting) > 0 {
				word += ": " + strings.Join(st.Waiting, "; ")
			}
		}
		if word != said {
			said = word
			fmt.Fprintln(a.err, word)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("the box has not said for %s what became of the update; look at its console, or later: bulkhead show update", pushPatience)
			}
			return nil, errors.New("interrupted: the box goes on by itself; see: bulkhead show update")
		case <-time.After(a.poll):
		}
	}
}

// became says how an update ended. One that was not kept is a problem.
func (a *app) became(o *updates.Outcome) error {
	if a.json {
		if err := a.printJSON(o); err != nil {
			return err
		}
	} else if o.Outcome == updates.Kept {
		fmt.Fprintf(a.out, "%s: version %s runs\n", a.paint(green, "kept"), o.Version)
	} else {
		fmt.Fprintf(a.out, "%s: version %s does not run: %s\n", a.paint(red, o.Outcome), o.Version, o.Why)
	}
	if o.Outcome != updates.Kept {
		return errShown
	}
	return nil
}

func (a *app) showUpdateCommand() *cobra.Command {
	const short = "Show the box's two systems, and what became of the last update"
	return &cobra.Command{
		Use: "update", Short: short, Long: short + ".\n\n" + exitHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.updates(cmd.Context())
			if err != nil {
				return err
			}
			st, err := c.Status(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(st)
			}
			a.printUpdate(st)
			return nil
		},
	}
}

func (a *app) printUpdate(st updates.Status) {
	line := func(what, value string) { fmt.Fprintf(a.out, "%-9s %s\n", what, value) }
	line("runs", system(st.Version, st.Built, a)+", kernel "+orDash(st.Kernel)+", slot "+st.Slot+", "+st.Arch)
	if st.Trial {
		line("on trial", a.paint(yellow, orDash(strings.Join(st.Waiting, "; "))))
	}
	switch st.Other.State {
	case "disabled":
		line("beside it", "nothing to go back to")
	default:
		line("beside it", system(st.Other.Version, st.Other.Built, a)+", "+st.Other.State)
	}
	if s := st.Staging; s != nil {
		line("comes in", fmt.Sprintf("version %s from %s: %s, %s of %s", s.Version, orDash(s.Author), orDash(s.Part), megabytes(s.Done), megabytes(s.Of)))
	}
	if o := st.Last; o != nil {
		text := fmt.Sprintf("version %s was %s at %s", o.Version, o.Outcome, a.when(o.Time))
		if o.Why != "" {
			text += ": " + o.Why
		}
		line("last", text)
	}
}

// system names a version, and when it was built.
func system(version string, built time.Time, a *app) string {
	if built.IsZero() {
		return "version " + orDash(version)
	}
	return fmt.Sprintf("version %s of %s", version, a.when(built))
}
