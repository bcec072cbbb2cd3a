package run_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/run"
)

type config struct {
	Zone string `json:"zone"`
}

// watcher runs WatchConfig over a file and collects what it is told.
type watcher struct {
	path    string
	applied chan string
	log     *lines
	done    chan error
	cancel  context.CancelFunc
}

func watch(t *testing.T, path string, apply func(config) error) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{path, make(chan string), newLines(), make(chan error, 1), cancel}
	go func() {
		w.done <- run.WatchConfig(ctx, slog.New(slog.NewTextHandler(w.log, nil)), path, func(c config) error {
			if err := apply(c); err != nil {
				return err
			}
			w.applied <- c.Zone
			return nil
		})
	}()
	return w
}

func (w *watcher) want(t *testing.T, zone string) {
	t.Helper()
	select {
	case got := <-w.applied:
		if got != zone {
			t.Fatalf("got configuration %q, want %q", got, zone)
		}
	case err := <-w.done:
		t.Fatalf("gave up: %v", err)
	}
}

func (w *watcher) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	if err := <-w.done; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 100)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.more <- struct{}{} }()
	return l.buf.Write(p)
}

func (l *lines) want(t *testing.T, text string) {
	t.Helper()
	<-l.more
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.buf.String(), text) {
		t.Errorf("log lacks %q:\n%s", text, l.buf.String())
	}
	l.buf.Reset()
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func accept(config) error { return nil }

func TestConfigIsAppliedAgainWhenReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	replace(t, path, `{"zone": "iot"}`)
	w := watch(t, path, accept)
	w.want(t, "iot")
	replace(t, path, `{"zone": "iot"}`) // the same: nothing to do
	replace(t, path, `{"zone": "guest"}`)
	w.want(t, "guest")
	w.stop(t)
}

func TestOnlyWhatIsServedIsAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	ack := filepath.Join(filepath.Dir(path), "ack")
	if err := os.WriteFile(ack, []byte("of a process that died"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The file is written after apply has returned, so it is looked at in the next.
	acked := make(chan string, 1)
	w := watch(t, path, func(c config) error {
		data, err := os.ReadFile(ack)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		acked <- string(data)
		if c.Zone == "bad" {
			return errors.New("no such zone")
		}
		return nil
	})
	good := func(text string) string { return fmt.Sprintf("%x\n", sha256.Sum256([]byte(text))) }
	iot, guest := `{"zone": "iot"}`, `{"zone": "guest"}`
	for _, tt := range []struct{ file, before string }{
		{iot, ""}, {guest, good(iot)}, {`{"zone": "bad"}`, good(guest)}, {iot, good(guest)},
	} {
		replace(t, path, tt.file)
		if got := <-acked; got != tt.before {
			t.Errorf("before %s: acknowledged %q, want %q", tt.file, got, tt.before)
		}
		if strings.Contains(tt.file, "bad") {
			w.log.want(t, "no such zone")
			continue
		}
		<-w.applied
	}
	w.stop(t)
	if got, err := os.ReadFile(ack); err != nil || string(got) != good(iot) {
		t.Errorf("in the end: acknowledged %q, %v", got, err)
	}
}

func TestConfigIsWaitedForWithItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dhcpd")
	path := filepath.Join(dir, "config.json")
	w := watch(t, path, accept)
	for _, zone := range []string{"first", "second"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, path, fmt.Sprintf(`{"zone": %q}`, zone))
		w.want(t, zone)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	w.stop(t)
}

func TestBrokenConfigIsLoggedAndIgnored(t *testing.T) {
	tests := []struct{ name, text, log string }{
		{"unknown field", `{"zone": "a", "zoen": "b"}`, "unknown field"},
		{"half a file", `{"zone": "a`, "unexpected EOF"},
		{"empty", ``, "EOF"},
		{"two values", `{"zone": "a"} {"zone": "b"}`, "something follows"},
		{"wrong type", `{"zone": 7}`, "cannot unmarshal"},
		{"too large", `{"zone": "a"}` + strings.Repeat(" ", 32<<20), "larger than"},
		{"refused", `{"zone": "bad"}`, "no such zone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			replace(t, path, `{"zone": "iot"}`)
			w := watch(t, path, func(c config) error {
				if c.Zone == "bad" {
					return errors.New("no such zone")
				}
				return nil
			})
			w.want(t, "iot")
			replace(t, path, tt.text)
			w.log.want(t, tt.log)
			replace(t, path, `{"zone": "guest"}`)
			w.want(t, "guest")
			w.stop(t)
		})
	}
}

func TestDisabledEndsTheWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	replace(t, path, `{"zone": ""}`)
	w := watch(t, path, func(config) error { return run.ErrDisabled })
	if err := <-w.done; !errors.Is(err, run.ErrDisabled) {
		t.Errorf("got %v, want ErrDisabled", err)
	}
}

func TestPipeInPlaceOfConfigHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	w := watch(t, path, accept)
	w.log.want(t, "not a regular file")
	replace(t, path, `{"zone": "iot"}`)
	w.want(t, "iot")
	w.stop(t)
}
