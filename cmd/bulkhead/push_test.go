package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/gaf/gaftest"
	"bulkhead/services/update/manifest"
)

// updated stands for a box's update service: it takes what it is sent, and says in the
// looks after the commit what is in looks.
type updated struct {
	t    *testing.T
	dir  string // of the socket
	keys updates.Keys

	mu        sync.Mutex
	begin     updates.Begin
	parts     map[string][]byte
	committed bool
	down      []string         // what the box was told to do
	looks     []updates.Status // an empty one is a box that is off
}

func newUpdated(t *testing.T) *updated {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	u := &updated{t: t, dir: dir, parts: map[string][]byte{}, keys: updates.Keys{Nonce: "n"}}
	l, err := net.Listen("unix", filepath.Join(dir, updates.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(u.answer)}
	t.Cleanup(func() { server.Close() })
	go func() { _ = server.Serve(l) }()
	return u
}

func (u *updated) answer(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		u.t.Error(err)
	}
	var out any = updates.None{}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/update":
		st := updates.Status{Version: "1", Last: &updates.Outcome{Outcome: updates.Kept, Version: "1", Time: today}}
		if u.committed {
			st, u.looks = u.looks[0], u.looks[1:]
		}
		if st.Version == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		out = st
	case "POST /v1/update":
		u.decode(body, &u.begin)
	case "PUT /v1/update/kernel", "PUT /v1/update/root":
		u.parts[filepath.Base(r.URL.Path)] = body
	case "POST /v1/update/commit":
		u.committed = true
	case "POST /v1/restart", "POST /v1/power-off":
		u.down = append(u.down, filepath.Base(r.URL.Path))
	case "GET /v1/keys":
		out = u.keys
	case "POST /v1/keys":
		var in updates.AddKey
		u.decode(body, &in)
		if c := (manifest.KeyChange{Nonce: "n", Key: in.Key, Name: in.Name}); len(u.keys.Keys) > 0 {
			if err := manifest.VerifyKeys(c, *in.Signature, []manifest.PublicKey{u.keys.Keys[0].Key}); err != nil {
				u.t.Error(err)
			}
		}
		u.keys.Keys = append(u.keys.Keys, updates.Key{ID: in.Key.ID(), Key: in.Key, Name: in.Name, Added: today})
	default:
		u.t.Errorf("asked for %s %s", r.Method, r.URL.Path)
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		u.t.Error(err)
	}
}

func (u *updated) decode(body []byte, v any) {
	if err := json.Unmarshal(body, v); err != nil {
		u.t.Errorf("%s: %v", body, err)
	}
}

// bulkhead runs a command on the box.
func (u *updated) bulkhead(args ...string) (out, errs string, code int) {
	u.t.Helper()
	var o, e bytes.Buffer
	a := &app{out: &o, err: &e, in: strings.NewReader(""), now: func() time.Time { return today }, location: time.UTC, poll: time.Millisecond}
	code = a.run(u.t.Context(), append([]string{"--socket", filepath.Join(u.dir, api.SocketFile)}, args...))
	return o.String(), e.String(), code
}

// expect runs a command that must go well, and returns what it printed.
func (u *updated) expect(args ...string) string {
	u.t.Helper()
	out, errs, code := u.bulkhead(args...)
	if code != 0 {
		u.t.Fatalf("bulkhead %v: exit %d: %s", args, code, errs)
	}
	return out
}

func TestPushSaysWhatBecameOfTheUpdate(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	off := updates.Status{}
	trial := updates.Status{Version: "2", Trial: true, Waiting: []string{"DNS in zone iot does not answer: no answer"}}
	ended := func(version, outcome, why string) updates.Status {
		return updates.Status{Version: version, Last: &updates.Outcome{Outcome: outcome, Version: "2", Why: why, Time: today.Add(time.Minute)}}
	}
	for _, c := range []struct {
		name  string
		looks []updates.Status
		out   string
		errs  []string
		code  int
	}{
		{"kept", []updates.Status{off, trial, ended("2", updates.Kept, "")}, "kept: version 2 runs\n",
			[]string{"restarts into it", "comes back", "version 2 runs, and is checked: DNS in zone iot"}, 0},
		{"undone", []updates.Status{off, off, ended("1", updates.Undone, "no DNS")}, "undone: version 2 does not run: no DNS\n", nil, exitProblem},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUpdated(t)
			u.looks = c.looks
			path := gaftest.New(t, "amd64", "6.12.1", nil)
			if out, errs, code := u.bulkhead("push", path); code == 0 || !strings.Contains(errs, "bulkhead image sign") {
				t.Errorf("not signed: got %q, %q, %d", out, errs, code)
			}
			u.expect("image", "sign", "--version", "2", path)
			out, errs, code := u.bulkhead("push", path)
			if out != c.out || code != c.code {
				t.Errorf("got %q, exit %d, want %q, exit %d; it said:\n%s", out, code, c.out, c.code, errs)
			}
			for _, want := range c.errs {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in\n%s", want, errs)
				}
			}
			key, _, err := readSigningKey()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := manifest.VerifyImage(u.begin.Manifest, u.begin.Signatures, []manifest.PublicKey{key.Public()}); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(u.parts["kernel"], gaftest.Kernel("amd64", "6.12.1")) || !bytes.Equal(u.parts["root"], gaftest.Root("6.12.1")) {
				t.Error("other parts were sent than are in the archive")
			}
		})
	}
}

func TestKeysAreMadeOnceAndKeptToOneself(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	u := newUpdated(t)
	if _, errs, code := u.bulkhead("keys", "show"); code == 0 || !strings.Contains(errs, "bulkhead keys new") {
		t.Errorf("without a key: got %q, %d", errs, code)
	}
	made := u.expect("keys", "new")
	if shown := u.expect("keys", "show"); shown != made || !strings.HasPrefix(shown, "ed25519:") {
		t.Errorf("made %q, shown %q", made, shown)
	}
	if _, _, code := u.bulkhead("keys", "new"); code == 0 {
		t.Error("the key was made again")
	}
	path := filepath.Join(dir, "bulkhead", "signing.key")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := u.bulkhead("keys", "show"); code == 0 || !strings.Contains(errs, "others") {
		t.Errorf("a key for all to read: got %q, %d", errs, code)
	}
}

func TestKeysOfABox(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	u := newUpdated(t)
	u.expect("keys", "new")
	u.expect("keys", "add")
	other, err := manifest.NewPrivateKey(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	u.expect("keys", "add", other.Public().String(), "kim")
	out := u.expect("keys", "list")
	for i, want := range []string{"yours", "kim"} {
		if line := strings.Split(out, "\n")[i+1]; !strings.Contains(line, want) {
			t.Errorf("no %q in line %q", want, line)
		}
	}
	if _, _, code := u.bulkhead("keys", "add", "ed25519:AAAA", "kim"); code != exitUsage {
		t.Errorf("a key that is none: exit %d", code)
	}
}

func TestBarFitsTheTerminal(t *testing.T) {
	for _, width := range []int{40, 80, 200} {
		b := &bar{width: width, what: "kernel", total: 10_000_000}
		for _, done := range []int64{0, 1, 5_000_000, 10_000_000} {
			if line := b.line(done, 3*time.Second); len(line) > max(width, 70) {
				t.Errorf("%d characters in %d: %s", len(line), width, line)
			}
		}
	}
	b := &bar{width: 100, what: "kernel", total: 10_000_000}
	want := fmt.Sprintf("kernel [%s%s]  50 %%  5.0 MB of 10.0 MB  2.5 MB/s, 2s left", strings.Repeat("#", 20), strings.Repeat(".", 20))
	if got := b.line(5_000_000, 2*time.Second); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
