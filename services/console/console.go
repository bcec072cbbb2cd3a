//go:build linux

// Package console is what a person sees who stands before the box: on its screen and
// its serial line, how the box is, and a menu to bring it back from trouble.
//
// It has no rights of its own, and decides nothing: it asks the daemons and passes
// orders on. It never takes an order that was not typed as a whole word, shows
// nothing that a terminal would obey, and waits for no terminal and no daemon.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/file"
	"bulkhead/services/run"
)

// Where things are below the root of the file system.
const (
	activeFile  = "sys/class/tty/console/active"
	devices     = "dev"
	printkFile  = "proc/sys/kernel/printk"
	imageFile   = "etc/bulkhead/image.json"
	gokrazySock = "run/gokrazy-http.sock"
)

// Run serves the terminals that the kernel calls its consoles until ctx ends, and
// returns ctx's error. root is the root of the file system, other than / in tests;
// runDir is where the daemons have their sockets. A box without a console gets
// [run.ErrDisabled].
func Run(ctx context.Context, log *slog.Logger, root, runDir string) error {
	active, err := os.ReadFile(filepath.Join(root, activeFile))
	if err != nil {
		return fmt.Errorf("list the consoles: %w", err)
	}
	names := terminals(string(active))
	if len(names) == 0 {
		return fmt.Errorf("the kernel has no console: %w", run.ErrDisabled)
	}
	if err := calm(filepath.Join(root, printkFile)); err != nil {
		log.Warn("the kernel goes on writing over the screen", "err", err)
	}
	c := &console{
		log:     log,
		daemons: connect(runDir, filepath.Join(root, gokrazySock)),
		board:   newBoard(version(filepath.Join(root, imageFile))),
		open:    func(name string) (terminal, error) { return openTTY(filepath.Join(root, devices, name)) },
	}
	return c.serve(ctx, names)
}

// terminals reads what /sys/class/tty/console/active says. tty0 is whichever of the
// screen's terminals is in front; the first one is, unless somebody changes that.
func terminals(active string) []string {
	var names []string
	for _, name := range strings.Fields(active) {
		if name == "tty0" {
			name = "tty1"
		}
		if name == filepath.Base(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// calm has the kernel write no more than errors to the consoles: what it says while it
// boots helps, what it says about every cable later hides the screen.
func calm(path string) error {
	const errorsOnly = "4" // below KERN_WARNING, printk(9)
	return os.WriteFile(path, []byte(errorsOnly), 0)
}

// version is the version of the running image; "" if it does not say.
func version(path string) string {
	data, err := file.Read(path, 64<<10)
	if err != nil {
		return ""
	}
	var image struct {
		Version string `json:"version"`
	}
	_ = json.Unmarshal(data, &image) // an image that does not know its version works, too
	return image.Version
}

// console is the sessions and what they share.
type console struct {
	log     *slog.Logger
	daemons daemons
	board   *board
	open    func(name string) (terminal, error)
	tasks   sync.WaitGroup
}

func (c *console) serve(ctx context.Context, names []string) error {
	var g sync.WaitGroup
	g.Go(func() { c.board.watch(ctx, c.daemons) })
	for _, name := range names {
		g.Go(func() { c.keep(ctx, name) })
	}
	g.Wait()
	c.tasks.Wait()
	return ctx.Err()
}

// reopen is how long to wait before a terminal is opened again, at first and at most.
var reopen = [2]time.Duration{time.Second, 30 * time.Second}

// keep runs sessions on a terminal, one after the other: a line that hangs up gets a
// fresh one, in which nothing is typed yet.
func (c *console) keep(ctx context.Context, name string) {
	wait, said := reopen[0], ""
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			c.log.Warn("terminal lost, opening it again", "terminal", name, "err", err)
		}
		if time.Since(began) > reopen[1] {
			wait = reopen[0]
		}
		sleep(ctx, wait)
		wait = min(2*wait, reopen[1])
	}
}

func (c *console) session(ctx context.Context, name string) error {
	t, err := c.open(name)
	if err != nil {
		return err
	}
	s := &session{name: name, board: c.board, start: func(do *task, name string) <-chan report { return c.carryOut(ctx, do, name) }}
	return s.run(ctx, t)
}

// carryOut does a task, whatever becomes of the terminal where it was ordered.
func (c *console) carryOut(ctx context.Context, do *task, terminal string) <-chan report {
	c.log.Warn("ordered at the console", "task", do.title, "terminal", terminal)
	finished := make(chan report, 1)
	c.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, do.limit)
		defer cancel()
		r, err := do.do(ctx, c.daemons, "console "+terminal)
		if err != nil {
			c.log.Error("ordered at the console", "task", do.title, "err", err)
			r = report{words: append([]string{"It did not work."}, failure(do, err)...)}
		}
		finished <- r
	})
	return finished
}

// failure says what went wrong, in paragraphs: what to do comes before all that was
// found, of which the end may be cut.
func failure(do *task, err error) []string {
	if errors.Is(err, context.DeadlineExceeded) {
		return []string{fmt.Sprintf("There was no answer for %s. It may still happen: look at the state of the box.", do.limit)}
	}
	if refused, ok := errors.AsType[*api.Refused](err); ok && refused.Hint != "" {
		found := *refused
		found.Hint = ""
		return []string{"On a workstation: " + refused.Hint + ".", silence(do.daemon, &found)}
	}
	return []string{silence(do.daemon, err)}
}
