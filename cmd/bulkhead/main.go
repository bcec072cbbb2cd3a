// Command bulkhead is how people and programs talk to Bulkhead: it checks
// configuration files, explains them, shows what a change would do, and asks the
// running box: by netcfgd's socket on the box itself, over HTTPS from a workstation
// that has claimed it. What concerns a file alone works on any Linux machine without
// root.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bulkhead/images/flash"
	"bulkhead/netcfg/api"
	"bulkhead/webui/remote"
)

// Exit codes. They are promised in the help text.
const (
	exitProblem = 1 // what was asked has a problem: file refused, test failed, connection denied
	exitUsage   = 2
	exitSystem  = 3 // a file cannot be read; netcfgd or the system did not play along
)

const exitHelp = `Exit codes: 0 all is well · 1 there is a problem in what was asked: the file is
refused, a test fails, a connection is denied · 2 wrong usage · 3 a file cannot be
read, netcfgd cannot be reached, or the system failed.`

// app is what the subcommands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	asks     bool // somebody sits there to answer questions
	color    bool
	redraws  bool // the terminal takes words to write over what it shows
	width    int  // of the terminal, in characters; 0: there is none
	now      func() time.Time
	poll     time.Duration  // between two looks at a box that restarts
	location *time.Location // in which times are shown

	socket string
	box    string // name or address of a box that was claimed; "": the one that this runs on
	json   bool
}

func main() {
	// Signals end the program, except where a command has something to say or to
	// clean up first: reading a file or a pipe cannot be interrupted otherwise.
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, asks: terminal(os.Stdin) && terminal(os.Stdout), color: colorful(os.Stdout), redraws: os.Getenv("TERM") != "dumb", width: columns(os.Stdout),
		now: time.Now, poll: pushLook, location: time.Local,
	}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// columns returns the width of the terminal that f is, or 0.
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// colorful reports whether f is a terminal whose owner has nothing against colours.
// https://no-color.org
func colorful(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return terminal(f)
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.report(err)
	}
	return 0
}

// failure is what a command prints as JSON that cannot do what was asked, as the API
// answers then.
type failure struct {
	Error   string       `json:"error"`
	Refused *api.Refused `json:"refused,omitempty"`
	Pending *api.Pending `json:"pending,omitempty"` // the change that is in the way
}

// report prints an error, unless its command has shown all there is to say, and
// picks the exit code.
func (a *app) report(err error) int {
	if errors.Is(err, errShown) {
		return exitProblem
	}
	refused, _ := errors.AsType[*api.Refused](err)
	if a.json && !errors.Is(err, errUsage) {
		f := failure{Error: err.Error(), Refused: refused}
		if busy, ok := errors.AsType[*api.Busy](err); ok {
			f.Pending = &busy.Pending
		}
		_ = a.printJSON(f) // the words follow in any case
	}
	if refused != nil {
		a.problems(a.err, refused)
		return exitProblem
	}
	fmt.Fprintf(a.err, "bulkhead: %v\n", err)
	if e, ok := errors.AsType[*remote.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(a.err, "\thint: %s\n", e.Hint)
	} else if errors.Is(err, api.ErrUnreachable) {
		fmt.Fprintf(a.err, "\thint: netcfgd may not be running on this machine, or you are not root; --box names a box to ask instead\n")
	}
	switch {
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, api.ErrUnknown), errors.Is(err, api.ErrNothing), errors.Is(err, api.ErrInvalid), errors.Is(err, flash.ErrRefused),
		errors.Is(err, api.ErrDenied), errors.Is(err, api.ErrTooEarly), errors.Is(err, errNotKept), errors.Is(err, remote.ErrUndone):
		return exitProblem
	}
	if _, busy := errors.AsType[*api.Busy](err); busy {
		return exitProblem
	}
	return exitSystem
}

var (
	// errShown says that the command itself has printed what is wrong.
	errShown = errors.New("shown")
	errUsage = errors.New("wrong usage")
)

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "Zones that keep a leak in one compartment from sinking the ship",
		Long: `Bulkhead is a gateway on which nothing passes between zones unless one line of
one file says so, with a reason. This program checks and explains such files, and
talks to the gateway it runs on.

` + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", "/run/bulkhead/"+api.SocketFile, "`path` of netcfgd's socket")
	root.PersistentFlags().StringVar(&a.box, "box", "", "`name` or address of a box to ask, instead of this machine")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON for programs")
	_ = root.RegisterFlagCompletionFunc("box", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // fails without such a flag
		all, _ := remote.Open() // none then
		return all.Names(), cobra.ShellCompDirectiveNoFileComp
	})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see: %s --help", errUsage, err, cmd.CommandPath())
	})
	root.AddCommand(
		a.checkCommand(), a.planCommand(), a.applyCommand(), a.confirmCommand(), a.cancelCommand(), a.undoCommand(), a.historyCommand(), a.isolateCommand(), a.releaseCommand(), a.whyCommand(), a.testCommand(), a.showCommand(), a.devicesCommand(), a.leasesCommand(), a.eventsCommand(), a.alertsCommand(), a.flowsCommand(), a.talksCommand(), a.suggestCommand(), a.pingCommand(), a.tracerouteCommand(), a.captureCommand(), a.exposureCommand(), a.handbookCommand(),
		a.claimCommand(), a.tokenCommand(), a.certificateCommand(), a.pushCommand(), a.keysCommand(), a.secretCommand(), a.backupCommand(), a.restoreCommand(), a.supportCommand(), a.imageCommand(), a.rebootCommand(), a.powerOffCommand(),
		newLabCommand(),
	)
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong arguments of cmd and all below it a wrong usage.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: %w; see: %s --help", errUsage, err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

// completeFiles offers configuration files where one is expected.
func completeFiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
