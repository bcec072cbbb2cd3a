//go:build linux

package api_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// backend answers what it is told to.
type backend struct {
	api.Backend // nil: what a test does not expect to be asked panics
	why         func(from, to, protocol string) (*api.Why, error)
	apply       func(api.Change) (*api.Trial, error)
	undo        func(api.Undo) (*api.Trial, error)
}

func (b backend) Status(context.Context) (*api.Status, error) {
	return &api.Status{Name: "gw", Mode: api.Closed, Reason: "no configuration"}, nil
}
func (b backend) Leases(context.Context) ([]svcconf.Lease, error) {
	return nil, errors.New("the disk is gone")
}
func (b backend) Why(_ context.Context, from, to, protocol string) (*api.Why, error) {
	return b.why(from, to, protocol)
}
func (b backend) Undo(_ context.Context, u api.Undo) (*api.Trial, error) {
	if b.undo != nil {
		return b.undo(u)
	}
	return nil, fmt.Errorf("%w: %s has no other configuration", api.ErrNothing, u.Author)
}
func (b backend) Entry(_ context.Context, number int) (*api.Entry, error) {
	return &api.Entry{Confirmed: api.Confirmed{Number: number, Why: "films"}, Name: "f.yaml", Data: []byte("a: \xff\n")}, nil
}
func (b backend) Diff(_ context.Context, from, to int) (*api.Diff, error) {
	if to == 9 {
		return nil, api.Unknown(errors.New("the history has no change 9"))
	}
	return &api.Diff{From: from, To: to, Text: "-a\n+b\n", Reach: []api.Reach{{From: "iot", To: "internet", Services: []string{"any"}}}}, nil
}
func (b backend) Apply(_ context.Context, c api.Change) (*api.Trial, error) { return b.apply(c) }

// serve returns a client of b and the path of its socket.
func serve(t *testing.T, b api.Backend) (*api.Client, string) {
	t.Helper()
	run, err := os.MkdirTemp("", "api") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	l, err := api.Listen(run)
	if err != nil {
		t.Fatal(err)
	}
	srv := api.NewServer(b, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	path := filepath.Join(run, api.SocketFile)
	return api.NewClient(path), path
}

func TestAnswersAndErrorsArriveAsTheyWere(t *testing.T) {
	problem := &diag.Problem{Pos: diag.Pos{File: "f.yaml", Line: 3, Col: 5}, Key: "zones.iot", Msg: "bad", Hint: "mend it"}
	b := backend{
		why: func(from, to, protocol string) (*api.Why, error) {
			if from == "tvv" {
				return nil, api.Unknown(fmt.Errorf("no zone is called %q", from))
			}
			return &api.Why{From: from, To: to, Protocol: protocol}, nil
		},
		apply: func(c api.Change) (*api.Trial, error) {
			if string(c.File.Data) != "a: \xff\n" {
				t.Errorf("got file %q", c.File.Data)
			}
			return nil, &api.Refused{Problems: diag.List{problem}}
		},
	}
	c, _ := serve(t, b)

	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&api.Status{Name: "gw", Mode: api.Closed, Reason: "no configuration"}, status); diff != "" {
		t.Errorf("status differs (-want +got):\n%s", diff)
	}
	why, err := c.Why(t.Context(), "tv", "nas", "tcp/80&x=y")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&api.Why{From: "tv", To: "nas", Protocol: "tcp/80&x=y"}, why); diff != "" {
		t.Errorf("why differs (-want +got):\n%s", diff)
	}
	_, err = c.Why(t.Context(), "tvv", "nas", "ssh")
	if !errors.Is(err, api.ErrUnknown) || err.Error() != `no zone is called "tvv"` {
		t.Errorf("unknown name: got %v", err)
	}
	_, err = c.Apply(t.Context(), api.Change{File: api.File{Name: "f.yaml", Data: []byte("a: \xff\n")}})
	refused, ok := errors.AsType[*api.Refused](err)
	if !ok {
		t.Fatalf("refused file: got %v", err)
	}
	if diff := cmp.Diff(diag.List{problem}, refused.Problems); diff != "" {
		t.Errorf("problems differ (-want +got):\n%s", diff)
	}
	if _, err = c.Undo(t.Context(), api.Undo{Author: "kim"}); !errors.Is(err, api.ErrNothing) || err.Error() != "nothing to undo: kim has no other configuration" {
		t.Errorf("nothing to undo: got %v", err)
	}
	entry, err := c.Entry(t.Context(), 7)
	if err != nil || entry.Number != 7 || entry.Why != "films" || string(entry.Data) != "a: \xff\n" {
		t.Errorf("entry: got %+v, %v", entry, err)
	}
	diff, err := c.Diff(t.Context(), 7, 8)
	want := &api.Diff{From: 7, To: 8, Text: "-a\n+b\n", Reach: []api.Reach{{From: "iot", To: "internet", Services: []string{"any"}}}}
	if diff := cmp.Diff(want, diff); err != nil || diff != "" {
		t.Errorf("%v, difference differs (-want +got):\n%s", err, diff)
	}
	if _, err = c.Diff(t.Context(), 7, 9); !errors.Is(err, api.ErrUnknown) {
		t.Errorf("unknown change: got %v", err)
	}
	if _, err = c.Leases(t.Context()); err == nil || err.Error() != "the disk is gone" {
		t.Errorf("an error of the box: got %v", err)
	}
}

func TestRequestsAreReadStrictly(t *testing.T) {
	_, path := serve(t, backend{})
	raw := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
	tests := []struct {
		name, body string
		want       int
	}{
		{"unknown field", `{"file":{},"force":true}`, http.StatusBadRequest},
		{"no duration", `{"window":"soon"}`, http.StatusUnprocessableEntity},
		{"two values", `{} {}`, http.StatusBadRequest},
		{"no value", ``, http.StatusBadRequest},
		{"too large", `{"why":"` + strings.Repeat("x", 2*api.MaxFile) + `"}`, http.StatusRequestEntityTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := raw.Post("http://netcfgd/v1/apply", "application/json", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("got status %d, want %d", resp.StatusCode, tt.want)
			}
		})
	}
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	_, err := api.NewClient(filepath.Join(t.TempDir(), "none.sock")).Status(t.Context())
	if !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("got %v, want an error wrapping ErrUnreachable", err)
	}
}

func TestNobodyButRootAndWebuidGetsAnAnswer(t *testing.T) {
	ns := nstest.New(t) // for its threads, which are never used again
	_, path := serve(t, backend{})
	// As if the directory and the mode of the socket did not keep them away already.
	for _, p := range []string{path, filepath.Dir(path)} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(uid uintptr) (answered bool) {
		nstest.Run(t, ns, func() {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 { // this thread's only
				t.Error(errno)
				return
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				t.Error(err)
				return
			}
			_, _ = unix.Write(fd, []byte("GET /v1/status HTTP/1.0\r\n\r\n")) // fails if they hung up already
			n, _ := unix.Read(fd, make([]byte, 100))
			answered = n > 0
		})
		return answered
	}
	if !ask(0) || !ask(uintptr(svcconf.Webuid.ID)) {
		t.Error("root or webuid gets no answer")
	}
	if ask(65534) {
		t.Error("nobody gets an answer")
	}
}
