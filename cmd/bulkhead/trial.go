package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/txn"
	"bulkhead/webui/remote"
)

// terms are the flags of commands that try a change.
type terms struct {
	window  time.Duration
	ignore  []string
	yes     bool
	lockout bool // whoever sits at the box may accept it
	agreed  bool // and has
}

func (t *terms) flags(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.window, "window", 0, "how long the change waits to be confirmed, at most 30m; default: 2m, or 5m if the box moves")
	cmd.Flags().StringSliceVar(&t.ignore, "ignore", nil, "`services` that need not take the change, such as one that hangs")
	cmd.Flags().BoolVar(&t.yes, "yes", false, "confirm by a new connection without asking, as scripts do")
	cmd.Flags().BoolVar(&t.lockout, "accept-lockout", false, "at the box itself: go on, once you have agreed, although nobody may reach the box over the network afterwards")
}

// trialHelp is what commands that try a change say about it.
const trialHelp = `The change is tried: it is in force, and undoes itself unless it is confirmed in time.
Confirming takes a new connection by whoever made the change, so a change that cuts
its author off is never confirmed. On a terminal you are asked, and anything but "yes"
undoes it at once; otherwise confirm it with "bulkhead confirm", or use --yes.`

// proposal is a change that a command makes.
type proposal struct {
	what  string        // in words
	cfg   *model.Config // what is in force then; nil: not known
	terms terms
	start func(context.Context, *api.Client, api.Terms) (*api.Trial, error)
	shown bool // its plan
}

// errNotKept says that a change was undone because its author did not want it.
var errNotKept = errors.New("the change was undone, and all is as before")

// try tries a change, has it confirmed or undone by who sits there, and says so.
func (a *app) try(ctx context.Context, s *site, in *bufio.Reader, p proposal) error {
	r, err := a.insist(ctx, s, in, p)
	switch {
	case err != nil:
		return err
	case a.json && r.confirmed:
		return a.printJSON(r.tried.Plan)
	case a.json:
		return a.printJSON(api.Trial{Pending: r.tried.Pending, Token: r.token, Plan: r.tried.Plan})
	case r.confirmed:
		a.printKept(s, p, r.tried)
	default:
		fmt.Fprintf(a.out, "Confirm it with: bulkhead %sconfirm%s\nUndo it with:    bulkhead %scancel\n", s.flags(), r.argument, s.flags())
	}
	return nil
}

// insist tries a change although it locks out, if who sits at the box agrees.
func (a *app) insist(ctx context.Context, s *site, in *bufio.Reader, p proposal) (*attempt, error) {
	r, err := a.attempt(ctx, s, in, p)
	if refused, ok := errors.AsType[*api.Refused](err); ok && refused.Lockout != "" && p.terms.lockout {
		if err := a.agreeToLockout(in, refused.Lockout); err != nil {
			return nil, err
		}
		p.terms.agreed = true
		return a.attempt(ctx, s, in, p)
	}
	return r, err
}

// comesBack is how long a box takes at most to be where it was, once a change that moved
// it is undone.
const comesBack = 30 * time.Second

// attempt is what came of trying a change.
type attempt struct {
	tried     *remote.Tried
	confirmed bool
	token     string
	argument  string // that confirm takes to know the change
}

// attempt tries a change and has it confirmed or undone, or waiting if nobody is there.
func (a *app) attempt(ctx context.Context, s *site, in *bufio.Reader, p proposal) (*attempt, error) {
	// A terminal that hangs up is nobody who looks whether all is well.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	k := kept{Token: newToken()}
	k.ID = txn.IDOf(k.Token)
	r := &attempt{token: k.Token}
	before, _ := s.remembered() // none, if it cannot be read
	if s.remember(k) != nil {
		r.argument = " " + k.Token
	}
	next, window := adminURLs(p.cfg), cmp.Or(p.terms.window, txn.MovedWindow)
	if s.box != nil && len(next) > 0 && !slices.Contains(next, s.box.URL) && !a.json {
		fmt.Fprintf(a.out, "The box moves to %s. You have %s to follow it: this machine must be in %s.\n", strings.Join(next, ", "), api.Window(window), places(p.cfg))
	}
	var err error
	r.tried, err = s.try(ctx, k.ID, next, window+comesBack, func(ctx context.Context, c *api.Client) (*api.Trial, error) {
		return p.start(ctx, c, api.Terms{Window: api.Window(p.terms.window), Ignore: p.terms.ignore, Token: k.Token, AcceptLockout: p.terms.agreed})
	})
	if err != nil {
		return nil, a.notTried(ctx, s, k, before, p, err)
	}
	deadline := time.Now().Add(time.Duration(r.tried.Pending.Left))
	if !a.json {
		a.printTried(p, r.tried)
	}
	switch {
	case p.terms.yes:
		err = s.confirm(ctx, k.ID, k.Token, deadline)
	case a.asks && !a.json:
		err = a.askToKeep(ctx, s, in, k, deadline)
	default:
		return r, nil
	}
	if err != nil {
		return nil, a.notKept(ctx, s, k, err)
	}
	s.forget()
	r.confirmed = true
	return r, nil
}

// notTried says why a change is not on trial, or may be. What was on trial before may
// still be.
func (a *app) notTried(ctx context.Context, s *site, k, before kept, p proposal, err error) error {
	switch {
	case errors.Is(err, remote.ErrLost):
		return &remote.Error{
			Msg:  err.Error(),
			Hint: fmt.Sprintf("connect this machine to %s, then: bulkhead %sconfirm; unless that is done in time, the change undoes itself", places(p.cfg), s.flags()),
			Err:  err,
		}
	case ctx.Err() != nil:
		if err := s.cancel(context.WithoutCancel(ctx), k); err != nil && !errors.Is(err, api.ErrNothing) {
			return fmt.Errorf("interrupted; if the change is in force, it undoes itself in a few minutes: %w", err)
		}
		err = fmt.Errorf("interrupted: %w", errNotKept)
	}
	if before.Token == "" || s.remember(before) != nil {
		s.forget()
	}
	return err
}

// notKept says why a change is not kept.
func (a *app) notKept(ctx context.Context, s *site, k kept, err error) error {
	switch {
	case errors.Is(err, remote.ErrUndone):
		s.forget()
		return err
	case errors.Is(err, remote.ErrLate):
		return &remote.Error{Msg: err.Error(), Hint: fmt.Sprintf("the box is as before in a moment: see: bulkhead %sshow", s.flags()), Err: err}
	case ctx.Err() == nil:
		return err
	}
	// Whoever interrupts does not want it.
	if err := s.cancel(context.WithoutCancel(ctx), k); err != nil {
		return fmt.Errorf("interrupted; the change undoes itself unless it is confirmed in time: %w", err)
	}
	s.forget()
	return fmt.Errorf("interrupted: %w", errNotKept)
}

// askToKeep asks who sits there, with the time that is left, and does as they say.
func (a *app) askToKeep(ctx context.Context, s *site, in *bufio.Reader, k kept, deadline time.Time) error {
	answers := make(chan string, 1)
	go func() {
		line, _ := in.ReadString('\n') // without the end of the line, if the input ends: which is no
		answers <- strings.ToLower(line)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	fmt.Fprint(a.out, keepThis(deadline))
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(a.out)
			return ctx.Err()
		case answer := <-answers:
			said, complete := strings.CutSuffix(answer, "\n")
			if !complete {
				fmt.Fprintln(a.out)
			} else if said = strings.TrimSpace(said); said == "y" || said == "yes" {
				return s.confirm(ctx, k.ID, k.Token, deadline)
			}
			if err := s.cancel(ctx, k); err != nil {
				return err
			}
			s.forget()
			return errNotKept
		case now := <-tick.C:
			if a.redraws {
				fmt.Fprint(a.out, saveCursor+"\r"+keepThis(deadline)+restoreCursor)
			}
			if !now.Before(deadline) {
				fmt.Fprintln(a.out)
				return a.timeIsOver(ctx, s, k)
			}
		}
	}
}

// What a VT100 does, and all that came after it, but not every terminal.
const (
	saveCursor    = "\x1b7"
	restoreCursor = "\x1b8"
)

// keepThis is the question. It is always as long: what has been typed behind it stays
// where it is.
func keepThis(deadline time.Time) string {
	left := max(time.Until(deadline).Round(time.Second), 0)
	return fmt.Sprintf("Keep this? [y/N] (undone in %2d:%02d) ", int(left.Minutes()), int(left.Seconds())%60)
}

// timeIsOver says what became of a change that was not confirmed here. Somebody else may
// have confirmed it, who knows the token, or undone it.
func (a *app) timeIsOver(ctx context.Context, s *site, k kept) error {
	t, err := s.client().Pending(ctx)
	switch {
	case err != nil, t.Last == nil, t.Last.ID != k.ID: // its end is near
		return fmt.Errorf("%w: nobody confirmed it in time", remote.ErrUndone)
	case t.Last.End == api.EndConfirmed:
		return nil
	}
	return fmt.Errorf("%w: %s", remote.ErrUndone, t.Last)
}

// printTried says what is in force, and for how long.
func (a *app) printTried(p proposal, t *remote.Tried) {
	if t.Plan != nil && !p.shown {
		plan := *t.Plan
		plan.Missing = nil // it is the last word, not the first
		a.printPlan(&plan)
	}
	a.item("", a.paint(bold, p.what+" is in force on trial:")+fmt.Sprintf(" it undoes itself at %s, in %s, unless it is confirmed",
		t.Pending.Deadline.In(a.location).Format("15:04:05 MST"), t.Pending.Left))
	for _, m := range t.Pending.Moves {
		switch {
		case !m.From.IsValid():
			a.item("  ", fmt.Sprintf("the box is at %s in zone %s now, too", m.To, m.Zone))
		case !m.To.IsValid():
			a.item("  ", fmt.Sprintf("the box is no longer at %s: zone %s is no admin zone any more", m.From, m.Zone))
		case m.From == m.To:
			a.item("  ", fmt.Sprintf("the box is at %s as before, but zone %s is elsewhere now", m.To, m.Zone))
		default:
			a.item("  ", fmt.Sprintf("the box is at %s in zone %s now, no longer at %s", m.To, m.Zone, m.From))
		}
	}
	if !t.Found {
		fmt.Fprintf(a.out, "The box does not answer from here. Connect this machine to %s.\n", places(p.cfg))
	}
}

// printKept says that a change stays, and what the box lacks for it.
func (a *app) printKept(s *site, p proposal, t *remote.Tried) {
	var missing []string
	if t.Plan != nil {
		missing = t.Plan.Missing
	}
	if len(missing) == 0 {
		fmt.Fprintf(a.out, "%s is confirmed\n", p.what)
	} else {
		fmt.Fprintf(a.out, "%s is confirmed, except:\n", p.what)
	}
	for _, m := range missing {
		fmt.Fprintf(a.out, "  %s\n", a.paint(yellow, m))
	}
	if s.box != nil && slices.ContainsFunc(t.Pending.Moves, func(m api.Move) bool { return m.To.IsValid() }) {
		fmt.Fprintf(a.out, "The box is at %s now, and answers there.\n", s.box.URL)
	}
}

func (a *app) confirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [TOKEN]",
		Short: "Keep the change that is pending",
		Long: `Keep the change that was tried from here last, over a new connection to the box. It
takes the token of the change, which is remembered where it was tried, or given.

` + exitHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.site(cmd.Context())
			if err != nil {
				return err
			}
			return a.confirm(cmd.Context(), s, args)
		},
	}
}

func (a *app) confirm(ctx context.Context, s *site, args []string) error {
	k := kept{}
	if len(args) > 0 {
		k = kept{txn.IDOf(args[0]), args[0]}
	} else if found, err := s.remembered(); err == nil {
		k = found
	} else if errors.Is(err, fs.ErrNotExist) {
		return &remote.Error{Msg: "no change was tried from here", Hint: "who tried it has its token: bulkhead confirm TOKEN", Err: api.ErrNothing}
	} else {
		return err
	}
	if err := s.confirm(ctx, k.ID, k.Token, time.Now()); err != nil {
		return a.notKept(ctx, s, k, err)
	}
	s.forget()
	status, err := s.client().Status(ctx)
	switch {
	case err != nil:
		return err
	case a.json:
		return show(ctx, a, status, nil, a.printStatus)
	}
	fmt.Fprintln(a.out, a.paint(green, "Confirmed"))
	return nil
}

func (a *app) cancelCommand() *cobra.Command {
	c := api.Cancel{}
	cmd := &cobra.Command{
		Use:   "cancel",
		Short: "Undo the change that is pending",
		Long: `Undo the change that is pending, whoever made it, at once.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.site(cmd.Context())
			if err != nil {
				return err
			}
			o, err := s.client().Cancel(cmd.Context(), c)
			if err != nil {
				return err
			}
			s.forget()
			return show(cmd.Context(), a, o, nil, func(o *api.Outcome) error {
				_, err := fmt.Fprintf(a.out, "The change by %s is undone\n", orDash(o.Author))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&c.Author, "author", author(), "who wants it; with --box it is who claimed the box")
	return cmd
}

// reader returns what people type at.
func (a *app) reader() *bufio.Reader {
	if a.in == nil {
		return bufio.NewReader(strings.NewReader(""))
	}
	return bufio.NewReader(io.Reader(a.in))
}
