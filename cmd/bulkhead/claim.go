package main

import (
	"bufio"
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

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

// firstWindow is how long a first configuration waits: a cable may have to be moved.
const firstWindow = 10 * time.Minute

// claim is the command's flags.
type claim struct {
	code, name, fingerprint string
	yes, noKey              bool
	window                  time.Duration
}

func (a *app) claimCommand() *cobra.Command {
	var c claim
	cmd := &cobra.Command{
		Use:   "claim ADDRESS [FILE]",
		Short: "Make a box yours, and give it its first configuration",
		Long: `Exchange the claim code, which the box shows on its screen and serial console, for
a token that lets this workstation in from now on. Both sides prove that they know
the code, so nobody in between can take part. A new box is at 192.168.77.1.

The box's key is remembered with the token: bulkhead talks to nothing else that
claims to be the box. A box that asks for client certificates gives this workstation
one as well, so that who has lost theirs, or let it end, claims the box again. The key that signs images is made on first use, and the box is
told to trust it.

With FILE, the plan is shown, and FILE is tried once you agree. The box usually moves
to another address by that, and perhaps to another port: you have --window to follow
it there with this workstation, which confirms FILE as soon as it reaches the box. If
it does not, the box is as new again, but stays yours. A FILE of "-" is standard input.

` + exitHelp,
		Example: `  bulkhead claim 192.168.77.1 home.yaml
  bulkhead claim --code 4X7M-09QT-ZK3A-B1CD --yes 192.168.77.1 home.yaml`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeFiles(cmd, args[1:], word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.claim(ctx, c, args[0], args[1:])
		},
	}
	cmd.Flags().StringVar(&c.code, "code", "", "claim `code`; without it you are asked")
	cmd.Flags().StringVar(&c.name, "name", "", "`name` by which this workstation knows the box; default: the box's own")
	cmd.Flags().StringVar(&c.fingerprint, "fingerprint", "", "refuse a box with another `fingerprint` than this one")
	cmd.Flags().BoolVar(&c.noKey, "no-key", false, "do not tell the box to trust the key that signs your images")
	cmd.Flags().BoolVar(&c.yes, "yes", false, "try FILE without asking")
	cmd.Flags().DurationVar(&c.window, "window", firstWindow, "how long the box waits for this workstation to follow it, at most 30m")
	return cmd
}

func (a *app) claim(ctx context.Context, c claim, address string, files []string) error {
	url, err := remote.ParseURL(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	// All that can be wrong here is found before the code is used up.
	var file api.File
	later := "" // name of the box once the file is in force
	if len(files) > 0 {
		if files[0] == "-" && c.code == "" {
			return fmt.Errorf("%w: standard input is the file, so give the code with --code", errUsage)
		}
		if file, err = readFile(files[0]); err != nil {
			return err
		}
		cfg, _, err := a.parseFile(file)
		if err != nil {
			return err
		}
		later = cfg.System.Name
	}
	all, err := remote.Open()
	if err != nil {
		return err
	}
	box, err := a.look(ctx, url, c.fingerprint)
	if err != nil {
		return err
	}
	var key []byte
	if !c.noKey {
		k, _, err := signingKey()
		if err != nil {
			return err
		}
		key = k.Public()
	}
	in := bufio.NewReader(a.in)
	code, err := a.code(in, c.code)
	if err != nil {
		return err
	}
	claimed, err := box.Redeem(ctx, code, tokenName(), key)
	if err != nil {
		return err
	}
	p := claimed.Profile
	p.Name = profileName(all, p.Fingerprint, c.name, later, p.Name)
	if err := all.Save(p); err != nil {
		return fmt.Errorf("the box is claimed, but its token cannot be kept, so set a new code at its console: %w", err)
	}
	a.printClaimed(claimed)
	if len(files) == 0 {
		return a.done(p)
	}
	return a.first(ctx, p, file, c, in)
}

// look says who answers, before anything is told to it.
func (a *app) look(ctx context.Context, url, fingerprint string) (*remote.Claim, error) {
	box, err := remote.Look(ctx, url)
	if err != nil {
		return nil, err
	}
	if fingerprint != "" {
		want, err := access.ParseFingerprint(fingerprint)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if want != box.Fingerprint {
			return nil, &remote.Error{
				Msg:  fmt.Sprintf("%s has the fingerprint %s and not %s", url, box.Fingerprint, want),
				Hint: "this is another box, or somebody sits between you and it",
			}
		}
	}
	if !a.json {
		fmt.Fprintf(a.out, "The box at %s has the fingerprint\n  %s\nIts console must show the same one.\n", url, box.Fingerprint)
	}
	return box, nil
}

// code returns the claim code, which people may type more than once.
func (a *app) code(in *bufio.Reader, given string) (access.Code, error) {
	if given != "" {
		code, err := access.ParseCode(given)
		if err != nil {
			return code, fmt.Errorf("%w: %w", errUsage, err)
		}
		return code, nil
	}
	if !a.asks {
		return access.Code{}, fmt.Errorf("%w: nobody is there to be asked for the claim code: give it with --code", errUsage)
	}
	for {
		line, err := a.ask(in, "Claim code: ")
		if err != nil {
			return access.Code{}, err
		}
		code, err := access.ParseCode(line)
		if err == nil {
			return code, nil
		}
		fmt.Fprintf(a.out, "%v; it is four groups of four characters, such as 4X7M-09QT-ZK3A-B1CD\n", err)
	}
}

// ask asks a question of who sits there.
func (a *app) ask(in *bufio.Reader, question string) (string, error) {
	fmt.Fprint(a.out, question)
	line, err := in.ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		fmt.Fprintln(a.out)
		return "", fmt.Errorf("no answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// tokenName says who claims, for the box's lists and history.
func tokenName() string {
	name := author()
	if name == "" {
		name = "somebody"
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	if access.CheckName(name) != nil {
		return "workstation"
	}
	return name
}

// profileName is what a box is called from here: the first of the names that can be.
func profileName(all remote.Profiles, box access.Fingerprint, names ...string) string {
	for _, name := range names {
		if remote.CheckName(name) == nil {
			return all.Free(name, box)
		}
	}
	return all.Free("bulkhead", box)
}

func (a *app) printClaimed(p *remote.Claimed) {
	if p.KeyError != "" {
		fmt.Fprintf(a.err, "warning: the box does not trust your signing key yet: %s\n\thint: add it later with: bulkhead --box %s keys add\n", p.KeyError, p.Name)
	}
	if p.CertificateError != "" {
		fmt.Fprintf(a.err, "warning: the box asks for a client certificate, and has made none: %s\n\thint: set a new code at its console, and claim it again\n", p.CertificateError)
	}
	if !a.json {
		fmt.Fprintf(a.out, "%s: from now on it is known here as %s\n", a.paint(green, "The box is yours"), p.Name)
	}
}

// claimedBox is what claim prints as JSON.
type claimedBox struct {
	Box         string             `json:"box"`
	URL         string             `json:"url"`
	Also        []string           `json:"also,omitempty"` // where it may be as well
	Fingerprint access.Fingerprint `json:"fingerprint"`
}

func (a *app) done(p *remote.Profile) error {
	if a.json {
		return a.printJSON(claimedBox{p.Name, p.URL, p.Also, p.Fingerprint})
	}
	fmt.Fprintf(a.out, "Next: bulkhead --box %s show\n", p.Name)
	return nil
}

// first gives a box its first configuration, or another one. That this workstation
// reaches the box afterwards is all the confirmation it takes: the plan was agreed to.
func (a *app) first(ctx context.Context, p *remote.Profile, f api.File, c claim, in *bufio.Reader) error {
	s, err := siteOf(p)
	if err != nil {
		return err
	}
	plan, err := s.client().Plan(ctx, api.Proposal{File: f})
	if err != nil {
		return err
	}
	later := fmt.Sprintf("bulkhead --box %s apply %s", p.Name, f.Name)
	if !a.json {
		a.printPlan(plan)
	}
	if plan.Lockout != "" {
		return &api.Refused{Lockout: plan.Lockout}
	}
	if !c.yes {
		if !a.asks || f.Name == "-" {
			return fmt.Errorf("%w: nobody is there to agree to the plan: use --yes, or later: %s", errUsage, later)
		}
		answer, err := a.ask(in, fmt.Sprintf("Put %s into force? [y/N] ", f.Name))
		if err != nil {
			return err
		}
		if a := strings.ToLower(answer); a != "y" && a != "yes" {
			return fmt.Errorf("nothing was changed; later: %s", later)
		}
	}
	cfg := a.configOf(f)
	// Under a file that asks for certificates, who has none could not confirm it.
	if cfg != nil && cfg.System.ClientCertificates && p.Certificate == nil {
		if err := p.Certify(ctx, tokenName()); err != nil {
			return err
		}
		if err := s.all.Save(p); err != nil {
			return err
		}
	}
	change := api.Change{File: f, Via: api.ViaCLI, Why: "when the box was claimed"}
	_, err = a.attempt(ctx, s, in, proposal{
		what: f.Name, cfg: cfg, terms: terms{window: c.window, yes: true}, shown: true,
		start: func(ctx context.Context, box *api.Client, t api.Terms) (*api.Trial, error) {
			change.Terms = t
			return box.Apply(ctx, change)
		},
	})
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.out, "%s is confirmed\nThe box is at %s now, and answers there.\n", f.Name, p.URL)
	}
	return a.done(p)
}
