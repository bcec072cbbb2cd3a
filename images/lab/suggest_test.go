//go:build linux

package lab_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/images/lab"
	"bulkhead/netcfg/api"
)

// eventually waits until something is there to be seen, and returns it.
func eventually(t *testing.T, what string, look func() (string, bool)) string {
	t.Helper()
	var last string
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
		s, ok := look()
		if ok {
			return s
		}
		last = s
	}
	t.Fatalf("%s: not there\n%s", what, last)
	return ""
}

// cli runs bulkhead on the box.
func cli(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Gateway.Output(filepath.Join(programs(t), "bulkhead"), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// followed starts bulkhead flows --follow on the box and returns the lines that it
// prints. It is interrupted at the end.
func followed(t *testing.T, l *lab.Lab, args ...string) <-chan string {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs(t), "bulkhead"), append([]string{"flows", "--follow"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Gateway.Start(cmd); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		for range lines {
		}
		_ = cmd.Wait() // it dies of the signal
	})
	return lines
}

// awaited waits for a line that has all words.
func awaited(t *testing.T, lines <-chan string, words ...string) {
	t.Helper()
	late := time.After(20 * time.Second)
	var seen []string
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("it ended; no line with %q in\n%s", words, strings.Join(seen, "\n"))
			}
			if has(line, words...) {
				return
			}
			seen = append(seen, line)
		case <-late:
			t.Fatalf("no line with %q in\n%s", words, strings.Join(seen, "\n"))
		}
	}
}

func has(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// lineWith returns a line of a text that has all words.
func lineWith(text string, words ...string) (string, bool) {
	for line := range strings.Lines(text) {
		if has(line, words...) {
			return line, true
		}
	}
	return text, false
}

// TestWhatWasObservedBecomesARule has a zone observed, opens a connection that no rule
// allows, and follows it through bulkhead flows, talks and suggest into the file. There it
// lets the same connection pass when the zone is not observed any more, and no other.
func TestWhatWasObservedBecomesARule(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	enforced, _, _ := strings.Cut(string(data), "\ntests:") // which hold that the zone is kept from the NAS
	enforced += "\n"
	const zone = "    subnet: 192.168.40.0/24\n"
	observed := strings.Replace(enforced, zone, zone+"    mode: observe\n    observe-until: "+time.Now().AddDate(0, 1, 0).Format(time.DateOnly)+"\n", 1)
	if observed == enforced {
		t.Fatalf("%s has no zone to observe", example)
	}
	l := start(t, example)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	apply := func(text, why string) {
		t.Helper()
		if err := l.Apply(ctx, api.File{Name: example, Data: []byte(text)}, why); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := l.Apply(context.Background(), api.File{Name: example, Data: data}, "put back"); err != nil {
			t.Error(err)
		}
	})
	quickly(t, l, time.Second)
	since := time.Now().Format(time.RFC3339) // others have had much refused before
	tv, nas, laptop := l.Client("tv"), l.Client("nas"), l.Client("laptop")
	const port, other = 9999, 9998
	for _, p := range []uint16{port, other} {
		listen(t, nas.Host, p, func(c net.Conn) { _, _ = io.Copy(c, c) })
	}
	talk := func(p uint16) error {
		c, err := dial(tv.Host, "tcp4", nas.Addr, p)
		if err != nil {
			return err
		}
		defer c.Close()
		echo(t, c, "hello")
		return nil
	}

	apply(observed, "what does the television need?")
	allowed := followed(t, l, "--device", "tv", "--port", "9999")
	refused := followed(t, l, "--verdict", "refused", "--port", "tcp/445")
	eventually(t, "flowd answers", func() (string, bool) {
		out, err := l.Gateway.Output(filepath.Join(programs(t), "bulkhead"), "flows")
		return out, err == nil
	})
	if err := talk(port); err != nil {
		t.Fatal(err)
	}
	// The connection is over, and some time later the kernel notices.
	time.Sleep(6 * time.Second)
	forgotten(t, ctx, l)
	if c, err := dial(laptop.Host, "tcp4", nas.Addr, 445); err == nil {
		c.Close()
		t.Error("the laptop reached the NAS")
	}
	awaited(t, allowed, "tv → nas", "tcp/9999", "observe:iot")
	awaited(t, refused, "→ nas", "smb", "refused: policy")
	line := eventually(t, "the connection among the flows", func() (string, bool) {
		return lineWith(cli(t, l, "flows", "--from", "tv", "--port", "9999", "--since", since), "nas", "tcp/9999")
	})
	if !has(line, "observe:iot") {
		t.Errorf("it is not said why it passed: %s", line)
	}
	eventually(t, "the connection among the talks", func() (string, bool) {
		return lineWith(cli(t, l, "talks", "--devices", "--port", "9999", "--since", since), "tv", "nas", "tcp/9999")
	})

	// The proposal, with a reason, goes into the file as it is printed.
	out := cli(t, l, "suggest", "--since", since)
	proposals, _, _ := strings.Cut(strings.TrimPrefix(out, "allow:\n"), "\n\n") // without what follows
	proposals = strings.TrimSuffix(proposals, "\n") + "\n"
	var rule string
	for _, p := range strings.SplitAfter(proposals, "    why: \"\"\n") {
		if has(p, "from: tv\n", "to: nas\n") {
			rule = strings.Replace(p, `why: ""`, "why: a test", 1)
		}
	}
	if !has(rule, "tv → nas tcp/9999: seen 1×") {
		t.Fatalf("nothing is proposed:\n%s", out)
	}
	apply(enforced, "it is known now")
	if err := talk(port); err == nil {
		t.Fatal("nothing lets it pass, and it does")
	}
	apply(strings.Replace(enforced, "\nallow:\n", "\nallow:\n"+rule, 1), "as proposed")
	if err := talk(port); err != nil {
		t.Error(err)
	}
	if err := talk(other); err == nil {
		t.Error("the proposal lets more pass than what was seen")
	}
}
