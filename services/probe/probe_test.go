//go:build linux

package probe_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/probe"
)

// serve answers with zone and message, joined, except in the zone "mute", and returns
// the socket's path.
func serve(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "probe") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "probe.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- probe.Serve(ctx, slog.New(slog.DiscardHandler), path, func(_ context.Context, zone string, msg []byte) []byte {
			if zone == "mute" {
				return nil
			}
			return append([]byte(zone+":"), msg...)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v", err)
		}
	})
	for { // the socket appears whole, by rename
		if _, err := os.Lstat(path); err == nil {
			return path
		}
		runtime.Gosched()
	}
}

func TestTheServiceAnswersWhatItWouldAnswerAClient(t *testing.T) {
	path := serve(t)
	for _, tt := range []struct{ zone, msg, want string }{
		{"iot", "who?", "iot:who?"},
		{"iot", "", "iot:"},
		{"mute", "who?", ""},
		{"iot", strings.Repeat("x", probe.MaxMessage), "iot:" + strings.Repeat("x", probe.MaxMessage)},
	} {
		got, err := probe.Ask(t.Context(), path, tt.zone, []byte(tt.msg))
		if err != nil || string(got) != tt.want || (got == nil) != (tt.want == "") {
			t.Errorf("%s, %.10q: got %.10q and %v, want %.10q", tt.zone, tt.msg, got, err, tt.want)
		}
	}
	if _, err := probe.Ask(t.Context(), path, "iot", make([]byte, probe.MaxMessage+1)); err == nil {
		t.Error("a message that is too long was sent")
	}
}

func TestNonsenseGetsNoAnswerAndHarmsNobody(t *testing.T) {
	path := serve(t)
	for _, text := range []string{"", "\x00", "\xff\xff", "\x00\x03iot\xff\xff", "\x00\x03iot\x00\x09who?"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, _ := c.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%q was answered", text)
		}
		c.Close()
	}
	if got, err := probe.Ask(t.Context(), path, "a", nil); string(got) != "a:" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestRootIsNotLedAway puts into the service's directory what a service that was taken
// over could put there.
func TestRootIsNotLedAway(t *testing.T) {
	path := serve(t)
	dir := filepath.Dir(path)
	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Symlink(path, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{link: unix.ENOTSOCK, file: unix.ENOTSOCK, filepath.Join(dir, "none"): fs.ErrNotExist} {
		if _, err := probe.Ask(t.Context(), path, "a", nil); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	if os.Geteuid() != 0 {
		return // cannot give the directory away
	}
	if err := os.Chown(dir, 7104, 7104); err != nil {
		t.Fatal(err)
	}
	if _, err := probe.Ask(t.Context(), path, "a", nil); err == nil || !strings.Contains(err.Error(), "user 0 listens there, not 7104") {
		t.Errorf("somebody else's socket: %v", err)
	}
}

// FuzzQuestion reads anything as a question: what is taken is within bounds, and what
// Ask would send.
func FuzzQuestion(f *testing.F) {
	f.Add([]byte("\x00\x03iot\x00\x02ab"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x01a\x10\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		zone, msg, err := probe.ReadQuestion(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(zone) > probe.MaxZone || len(msg) > probe.MaxMessage {
			t.Errorf("took %d and %d bytes", len(zone), len(msg))
		}
		if sent := probe.AppendField(probe.AppendField(nil, []byte(zone)), msg); !bytes.HasPrefix(data, sent) {
			t.Errorf("read %q and %q out of %q", zone, msg, data)
		}
	})
}
