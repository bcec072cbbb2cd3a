package console_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/services/auth/access"
	"bulkhead/services/console"
	update "bulkhead/services/update/api"
)

// box is all daemons at once. hangs is what does not answer.
type box struct {
	mu      sync.Mutex
	answers console.Answers
	hangs   map[string]bool
	lockout string // why the change before locks out
	refuses *api.Refused
	ordered []string
}

func (b *box) ask(ctx context.Context, what string) error {
	b.mu.Lock()
	hangs := b.hangs[what]
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (b *box) order(ctx context.Context, what string) error {
	b.mu.Lock()
	b.ordered = append(b.ordered, what)
	b.mu.Unlock()
	return b.ask(ctx, what)
}

func (b *box) orders() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.ordered, ",")
}

func (b *box) Status(ctx context.Context) (*api.Status, error) {
	return b.answers.Status, b.ask(ctx, "status")
}
func (b *box) Zones(ctx context.Context) ([]api.Zone, error) {
	return b.answers.Zones, b.ask(ctx, "zones")
}
func (b *box) Claim(ctx context.Context) (access.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.answers.Claim, ctx.Err()
}
func (b *box) Services(ctx context.Context) ([]console.Service, error) {
	return b.answers.Services, b.ask(ctx, "services")
}
func (b *box) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	if b.refuses != nil {
		return nil, b.refuses
	}
	if b.lockout != "" && !u.AcceptLockout {
		return nil, errors.Join(&api.Refused{Lockout: b.lockout}, b.order(ctx, "refused undo"))
	}
	p := &api.Plan{Reach: []api.Reach{{From: "guest", To: "internet", Possible: true, Services: []string{"any"}}}}
	return &api.Trial{Token: "token", Plan: p, Pending: api.Pending{Left: api.Window(2 * time.Minute)}}, b.order(ctx, "undo by "+u.Author)
}
func (b *box) Confirm(ctx context.Context, c api.Confirm) (*api.Confirmed, error) {
	return nil, b.order(ctx, "confirm "+c.Token)
}
func (b *box) Cancel(ctx context.Context, c api.Cancel) (*api.Outcome, error) {
	return nil, b.order(ctx, "cancel by "+c.Author)
}

// system is the same box for updated, which has a status of its own.
type system struct{ *box }

func (s system) Status(ctx context.Context) (update.Status, error) {
	return *s.answers.Systems, s.ask(ctx, "systems")
}
func (s system) BootOther(ctx context.Context) error { return s.order(ctx, "boot") }
func (s system) Reset(context.Context) error         { return errors.New("the disk is read-only") }

func (b *box) NewCode(ctx context.Context) error {
	b.mu.Lock()
	c := *b.answers.Claim
	c.Code = "NEWC-NEWC-NEWC-NEWC"
	b.answers.Claim = &c
	b.mu.Unlock()
	return b.order(ctx, "code")
}
func (b *box) Restart(ctx context.Context) error { return b.order(ctx, "restart") }

// wire is a terminal whose other end is a test.
type wire struct {
	keys   chan string
	closed chan struct{}

	mu    sync.Mutex
	stuck bool // nobody takes what is shown
	shown strings.Builder
	tries int // to show something
}

func newWire() *wire { return &wire{keys: make(chan string), closed: make(chan struct{})} }

func (w *wire) Read(p []byte) (int, error) {
	select {
	case s, ok := <-w.keys:
		if !ok {
			return 0, io.EOF
		}
		return copy(p, s), nil
	case <-w.closed:
		return 0, os.ErrClosed
	}
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if w.stuck {
		return 0, os.ErrDeadlineExceeded
	}
	return w.shown.Write(p)
}

func (w *wire) Size() console.Size { return standard }
func (w *wire) Close() error       { close(w.closed); return nil }

// take returns what was shown since it was called last.
func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.shown.Reset()
	return w.shown.String()
}

// serve runs a console of the box on the terminals, each of which takes the next one
// when it is opened again. It runs within a synctest bubble.
func serve(t *testing.T, b *box, terminals map[string][]*wire) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	open := func(name string) (console.Terminal, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(terminals[name]) == 0 {
			return nil, os.ErrNotExist
		}
		w := terminals[name][0]
		terminals[name] = terminals[name][1:]
		return w, nil
	}
	var names []string
	for name := range terminals {
		names = append(names, name)
	}
	done := make(chan error, 1)
	go func() { done <- console.Serve(ctx, slog.New(slog.DiscardHandler), b, system{b}, b, b, names, open) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func shows(t *testing.T, w *wire, wants ...string) {
	t.Helper()
	got := w.take()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("the terminal does not show %q, but\n%s", want, strings.ReplaceAll(got, "\x1b", "\n"))
		}
	}
}

func TestOrderIsCarriedOutAndItsResultShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, screen, serial := &box{answers: running()}, newWire(), newWire()
		serve(t, b, map[string][]*wire{"tty1": {screen}, "ttyS0": {serial}})
		settle()
		shows(t, screen, "192.168.10.1", "203.0.113.7")
		shows(t, serial, "192.168.10.1", "203.0.113.7")
		serial.keys <- "2\r"
		settle()
		shows(t, serial, `Type "undo"`)
		serial.keys <- "undo\r"
		settle()
		shows(t, serial, "is in force, on trial", "guest -> internet: any becomes possible", `Type "keep"`)
		serial.keys <- "keep\r"
		settle()
		shows(t, serial, "It stays.")
		if got := b.orders(); got != "undo by console ttyS0,confirm token" {
			t.Errorf("ordered %q", got)
		}
		if got := screen.take(); got != "" {
			t.Errorf("the other terminal was drawn: %q", got)
		}
		serial.keys <- "\r4\rcode\r"
		settle()
		shows(t, screen, "NEWC-NEWC-NEWC-NEWC") // at once, on the other one, too
		serial.keys <- "\r5\rgw\r"
		settle()
		shows(t, serial, "It did not work.", "updated: the disk is read-only")
	})
}

func TestUndoThatLocksOutTakesMoreWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := &box{answers: running(), lockout: "port lan is missing"}, newWire()
		serve(t, b, map[string][]*wire{"ttyS0": {w}})
		settle()
		for _, tt := range []struct {
			answer string
			wants  []string
			orders string
		}{
			{"undo\r", []string{"nothing happens"}, ""}, // it takes another word now
			{"\r", []string{"Nothing was changed."}, ""},
			{"lock me out\r", []string{"is in force, on trial", `Type "keep"`}, ",undo by console ttyS0"},
		} {
			w.keys <- "2\r"
			settle()
			b.mu.Lock()
			b.ordered = nil
			b.mu.Unlock()
			w.keys <- "undo\r"
			settle()
			shows(t, w, "Nothing was undone: this would lock you out: port lan is missing.", `Type "lock me out"`)
			w.keys <- tt.answer
			settle()
			shows(t, w, tt.wants...)
			if got := b.orders(); got != "refused undo"+tt.orders {
				t.Errorf("after %q: ordered %q", tt.answer, got)
			}
			w.keys <- "\x1b"
			settle()
		}
	})
}

func TestUndoThatIsRefusedSaysWhatToDoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := &box{answers: running()}, newWire()
		b.refuses = &api.Refused{Hint: "mend it", Problems: diag.List{
			{Pos: diag.Pos{File: "home.yaml", Line: 3, Col: 1}, Msg: "looks like an age key", Hint: "remove it"},
		}}
		serve(t, b, map[string][]*wire{"ttyS0": {w}})
		settle()
		w.keys <- "2\r"
		settle()
		w.keys <- "undo\r"
		settle()
		shows(t, w, "It did not work.", "On a workstation: mend it.", "netcfgd: home.yaml:3:1: looks like an age key hint: remove it")
	})
}

func TestNothingIsDrawnWhenNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := &box{answers: running()}, newWire()
		serve(t, b, map[string][]*wire{"tty1": {w}})
		settle()
		shows(t, w, "running")
		time.Sleep(time.Hour)
		if got := w.take(); got != "" {
			t.Errorf("drawn: %q", got)
		}
		w.keys <- "\r" // the kernel wrote over it
		settle()
		shows(t, w, "running", "192.168.10.1")
	})
}

func TestDaemonsThatHangAreNamedAndWaitedForByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := &box{answers: running(), hangs: map[string]bool{"status": true, "restart": true}}, newWire()
		serve(t, b, map[string][]*wire{"ttyS0": {w}})
		settle()
		shows(t, w, "asking netcfgd", "192.168.10.1")
		time.Sleep(10 * time.Second)
		shows(t, w, "netcfgd does not answer")
		w.keys <- "6\rrestart\r"
		settle()
		shows(t, w, "Please wait")
		w.keys <- "\x1b1\r"
		settle()
		shows(t, w, "enp2s0.10")
		time.Sleep(2 * time.Minute)
		shows(t, w, "It did not work.", "no answer for 2m0s")
	})
}

func TestTerminalThatHangsUpGetsAFreshSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first, second := &box{answers: running()}, newWire(), newWire()
		serve(t, b, map[string][]*wire{"ttyS0": {first, second}})
		settle()
		first.keys <- "2\rund"
		settle()
		close(first.keys)
		time.Sleep(5 * time.Second)
		shows(t, second, "running", "Type a number")
		second.keys <- "o\r"
		settle()
		if got := b.orders(); got != "" {
			t.Errorf("ordered %q with letters of two sessions", got)
		}
	})
}

func TestTerminalThatTakesNothingDoesNotStopTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stuck, w := &box{answers: running()}, newWire(), newWire()
		stuck.stuck = true
		serve(t, b, map[string][]*wire{"ttyS0": {stuck}, "tty1": {w}})
		settle()
		shows(t, w, "running")
		stuck.keys <- "6\rrestart\r" // typed blind
		settle()
		if got := b.orders(); got != "restart" {
			t.Errorf("ordered %q", got)
		}
		stuck.mu.Lock()
		stuck.tries = 0
		stuck.mu.Unlock()
		time.Sleep(time.Minute)
		stuck.mu.Lock()
		if stuck.tries > 7 {
			t.Errorf("the screen was offered %d times within a minute", stuck.tries)
		}
		stuck.stuck = false
		stuck.mu.Unlock()
		time.Sleep(10 * time.Second)
		shows(t, stuck, "gw", "The box restarts.", "Enter: back") // a whole screen
	})
}

func TestNoiseIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := &box{answers: running()}, newWire()
		serve(t, b, map[string][]*wire{"ttyS0": {w}})
		settle()
		w.take()
		began := time.Now()
		const bursts = 200
		for range bursts {
			w.keys <- strings.Repeat("\r", 100)
		}
		if d := time.Since(began); d < bursts/2*50*time.Millisecond {
			t.Errorf("%d bursts were taken within %v", bursts, d)
		}
		if screens := strings.Count(w.take(), "State"); screens > bursts+1 {
			t.Errorf("%d screens were drawn for %d bursts", screens, bursts)
		}
	})
}
