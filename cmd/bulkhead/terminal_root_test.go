//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/ptytest"
)

// seat is a person at a terminal of the box, who runs one command after the other.
type seat struct {
	*newBox
	box *api.Client
}

func newSeat(t *testing.T) *seat {
	b := unpack(t)
	s := &seat{b, api.NewClient(filepath.Join(b.dir, "run", api.SocketFile))}
	b.until("netcfgd answers", func() bool { _, err := s.box.Zones(t.Context()); return err == nil })
	if _, err := api.Keep(t.Context(), s.box, api.Change{File: api.File{Name: "home.yaml", Data: []byte(firstFile)}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "new.yaml"), []byte(firstFile+rules), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// command is one that runs.
type command struct {
	*ptytest.PTY
	cmd *exec.Cmd
	t   *testing.T
}

// run runs bulkhead at a new terminal, which is 60 wide.
func (s *seat) run(args ...string) *command {
	s.t.Helper()
	c := &command{ptytest.New(s.t), exec.Command(filepath.Join(s.bin, "bulkhead"), append(args, "--socket", filepath.Join(s.dir, "run", api.SocketFile))...), s.t}
	c.Resize(s.t, 60, 30)
	f := c.Attach(s.t, c.cmd)
	defer f.Close()
	c.cmd.Dir = s.dir
	c.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(s.dir, "seat"), "XDG_RUNTIME_DIR=", "TERM=vt100", "NO_COLOR=", "USER=kim", "SUDO_USER=")
	nstest.Run(s.t, s.gw, func() {
		if err := c.cmd.Start(); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() { _ = c.cmd.Process.Signal(syscall.SIGKILL); _ = c.cmd.Wait() }) // it has ended, if all went well
	return c
}

// countdown is the question with the time that is left, and what was typed.
var countdown = regexp.MustCompile(`^Keep this\? \[y/N\] \(undone in +(\d+):(\d\d)\) ?(.*)$`)

// asked waits until it asks, with at most that many seconds left, and holds that what
// was typed is still there to be seen.
func (c *command) asked(atMost int, typed string) {
	c.t.Helper()
	c.WaitScreen(c.t, fmt.Sprintf("the question, %q typed and at most %d seconds left", typed, atMost), func(lines []string) bool {
		if len(lines) == 0 {
			return false
		}
		m := countdown.FindStringSubmatch(lines[len(lines)-1])
		if m == nil {
			return false
		}
		var minutes, seconds int
		fmt.Sscan(m[1], &minutes)
		fmt.Sscan(m[2], &seconds)
		return 60*minutes+seconds <= atMost && m[3] == typed
	})
}

// ends waits until the command's last line is there, and it has ended with the code.
func (c *command) ends(last string, code int) {
	c.t.Helper()
	lines := c.WaitScreen(c.t, fmt.Sprintf("%q", last), func(lines []string) bool {
		return len(lines) > 0 && strings.Contains(lines[len(lines)-1], last)
	})
	if i := slices.IndexFunc(lines, func(l string) bool { return len(l) > 60 && !strings.HasPrefix(l, "bulkhead: ") }); i >= 0 {
		c.t.Errorf("a line is wider than the terminal: %q", lines[i])
	}
	_ = c.cmd.Wait() // the code says it
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Errorf("exit code %d, want %d; the screen is\n%s", got, code, strings.Join(lines, "\n"))
	}
}

// holds checks what became of the change: which is in force now, and how the last trial
// ended.
func (s *seat) holds(number int, end api.End, by string) {
	s.t.Helper()
	st, err := s.box.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if st.Pending != nil || st.Confirmed.Number != number || st.Last.End != end || st.Last.By != by || st.Last.Author != "kim" {
		s.t.Errorf("pending is %+v, confirmed %+v, the last was %+v; want number %d, %s by %q", st.Pending, st.Confirmed, st.Last, number, end, by)
	}
}

// TestAPersonConfirmsAtATerminal types the answers to "Keep this?", real program against
// real netcfgd, and reads the screen.
func TestAPersonConfirmsAtATerminal(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := newSeat(t)

	// The plan is there to be read, then the time, which goes by.
	c := s.run("apply", "new.yaml")
	lines := c.WaitScreen(t, "the question", func(lines []string) bool {
		return len(lines) > 0 && strings.Contains(lines[len(lines)-1], "Keep this? [y/N] (undone in  2:00)")
	})
	for _, want := range []string{"  + management → gadgets: tcp/443 becomes possible", "new.yaml is in force on trial: it undoes itself at", "unless it is confirmed"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, want) }) {
			t.Errorf("it does not say %q, but\n%s", want, strings.Join(lines, "\n"))
		}
	}
	c.asked(118, "")
	st, err := s.box.Status(t.Context())
	if err != nil || st.Pending == nil || st.Pending.Author != "kim" || st.Pending.Via != api.ViaCLI {
		t.Errorf("pending is %+v, %v", st.Pending, err)
	}

	// Another window sees whose it is and how long it has.
	other := s.run("apply", "home.yaml")
	other.WaitFor(t, "a change by kim (cli) is pending for another 1m5")
	other.ends("must be confirmed, canceled or undone first", exitProblem)

	// What is typed slowly is not lost to the countdown.
	c.Press(t, "ye")
	c.asked(116, "ye")
	c.Press(t, "s\r")
	c.ends("new.yaml is confirmed", 0)
	s.holds(2, api.EndConfirmed, "")

	for answer, name := range map[string]string{"n\r": "N", "\r": "nothing", "yep\r": "another word", "\x04": "the end of input"} {
		c = s.run("undo")
		c.asked(120, "")
		c.Press(t, answer)
		c.ends("the change was undone, and all is as before", exitProblem)
		if s.holds(2, api.EndCanceled, "kim"); t.Failed() {
			t.Fatalf("after %s", name)
		}
	}

	c = s.run("apply", "home.yaml")
	c.asked(119, "")
	c.Press(t, "\x03")
	c.ends("interrupted: the change was undone, and all is as before", exitProblem)
	s.holds(2, api.EndCanceled, "kim")

	// In another window it is confirmed, or undone.
	c = s.run("apply", "home.yaml")
	c.asked(120, "")
	s.run("cancel").ends("The change by kim is undone", 0)
	c.Press(t, "y\r")
	c.ends("it was undone: kim canceled it", exitProblem)
	s.holds(2, api.EndCanceled, "kim")
	c = s.run("undo")
	c.asked(120, "")
	s.run("apply", "new.yaml").ends("must be confirmed, canceled or undone first", exitProblem)
	s.run("confirm").ends("Confirmed", 0)
	c.Press(t, "y\r")
	c.ends("is confirmed", 0)
	s.holds(3, api.EndConfirmed, "")

	// It is undone, and a change of somebody else is pending, which is left alone.
	c = s.run("apply", "new.yaml")
	c.asked(120, "")
	s.run("cancel").ends("The change by kim is undone", 0)
	theirs, err := s.box.Apply(t.Context(), api.Change{File: api.File{Name: "new.yaml", Data: []byte(firstFile + rules)}, Author: "kim"})
	if err != nil {
		t.Fatal(err)
	}
	c.Press(t, "n\r")
	c.ends("the change is not pending any more; the last one by kim: it was undone: kim canceled it", exitProblem)
	if _, err := s.box.Confirm(t.Context(), api.Confirm{Token: theirs.Token}); err != nil {
		t.Errorf("it was not left alone: %v", err)
	}
	s.holds(4, api.EndConfirmed, "")

	// Nobody answers.
	c = s.run("apply", "--window", "10s", "home.yaml")
	c.asked(9, "")
	c.asked(1, "")
	c.ends("nobody confirmed it in time", exitProblem)
	s.until("the box has undone it", func() bool {
		p, err := s.box.Pending(t.Context())
		return err == nil && p.Pending == nil
	})
	s.holds(4, api.EndUnconfirmed, "")

	// The terminal hangs up: nobody is asked any more.
	c = s.run("apply", "home.yaml")
	c.asked(120, "")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // the code says it
	if code := c.cmd.ProcessState.ExitCode(); code != exitProblem {
		t.Errorf("exit code %d", code)
	}
	s.holds(4, api.EndCanceled, "kim")
}
