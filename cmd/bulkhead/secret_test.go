package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
)

// vault is that of a box with two secrets, of which one is old, and one that is missing.
type vault struct{ api.Vault }

func (vault) Secrets(context.Context) (*api.Secrets, error) {
	return &api.Secrets{
		Secrets: []api.Secret{
			{Name: "dyndns", Set: today.Add(-400 * 24 * time.Hour), By: "alex", Old: true, Uses: []string{}},
			{Name: "nextdns", Set: today.Add(-400 * 24 * time.Hour), Rotated: today.Add(-30 * time.Hour), By: "kim", Uses: []string{"resolvers[0].secret"}},
			{Name: "spare", Missing: true, Uses: []string{"resolvers[1].secret"}},
		},
		Recipients: []api.Recipient{
			{ID: "0a1b2c3d", Key: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Name: "alex", Added: today.Add(-time.Hour), By: "alex"},
		},
	}, nil
}

func (vault) SetSecret(_ context.Context, name string, v api.NewSecret) (*api.Done, error) {
	switch {
	case name == "dyndns":
		return nil, api.BadSecret(fmt.Errorf("secret %q is set already; to give it another value: bulkhead secret rotate %s", name, name))
	case string(v.Value) != "hunter2" && string(v.Value) != "two\nlines\n":
		return nil, fmt.Errorf("the value arrived as %q", string(v.Value))
	}
	return &api.Done{}, nil
}

func (vault) RotateSecret(_ context.Context, name string, v api.NewSecret) (*api.Done, error) {
	if name != "dyndns" {
		return nil, api.Unknown(fmt.Errorf("no secret is called %q", name))
	}
	return &api.Done{}, nil
}

func (vault) RemoveSecret(_ context.Context, name string) (*api.Done, error) {
	return nil, api.BadSecret(fmt.Errorf("secret %q is in use: resolvers[0].secret; take it out of the configuration first", name))
}

func (vault) AddRecipient(_ context.Context, r api.NewRecipient) (*api.Recipient, error) {
	return &api.Recipient{ID: "0a1b2c3d", Key: r.Key, Name: r.Name, Added: today}, nil
}

func (vault) RemoveRecipient(_ context.Context, id string) (*api.Done, error) {
	return &api.Done{}, nil
}

// pty returns a terminal and the end at which somebody types.
func pty(t *testing.T) (terminal, keyboard *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal, keyboard
}

// TestTypedSecretIsNotShown types secrets and looks at what the terminal shows, and how
// it is left.
func TestTypedSecretIsNotShown(t *testing.T) {
	long := strings.Repeat("0123456789", 800)
	for _, tt := range []struct{ keys, want, err string }{
		{"hunter2\r", "hunter2", ""},
		{"hunzer2\x7f\x7f\x7f\x7fter2\n", "hunter2", ""},
		{"wrong\x15hunter2\n", "hunter2", ""},
		{long + "\n", long, ""}, // longer than the kernel's own line
		{"hunter2\x03", "", "interrupted: nothing has changed"},
		{"\n", "", "no value was typed; nothing has changed"},
		{"-----BEGIN OPENSSH PRIVATE" + " KEY-----\nAAAA\n", "", "several lines"},
	} {
		term, keyboard := pty(t)
		before, err := unix.IoctlGetTermios(int(term.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		// Keys that are pressed before the terminal is mute are thrown away.
		prompted := &prompt{said: make(chan struct{})}
		a := &app{in: term, err: prompted}
		typed := make(chan error, 1)
		go func() {
			<-prompted.said
			for {
				now, err := unix.IoctlGetTermios(int(keyboard.Fd()), unix.TCGETS)
				if err != nil || now.Lflag&unix.ECHO == 0 {
					break
				}
			}
			_, err := keyboard.WriteString(tt.keys)
			typed <- err
		}()
		value, err := a.readSecret("dyndns")
		if err := <-typed; err != nil {
			t.Fatal(err)
		}
		if string(value) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %d characters, %v", tt.keys[:min(20, len(tt.keys))], len(value), err)
		}
		after, err := unix.IoctlGetTermios(int(term.Fd()), unix.TCGETS)
		if err != nil || *after != *before {
			t.Errorf("the terminal is left as %+v, %v", after, err)
		}
		if err := keyboard.SetReadDeadline(time.Now()); err == nil {
			shown := make([]byte, 100)
			if n, err := keyboard.Read(shown); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the terminal shows %q", shown[:n])
			}
		}
	}
}

// prompt is where a program writes to, and tells when it first does.
type prompt struct {
	bytes.Buffer
	said chan struct{}
}

func (s *prompt) Write(p []byte) (int, error) {
	if s.Len() == 0 {
		close(s.said)
	}
	return s.Buffer.Write(p)
}
