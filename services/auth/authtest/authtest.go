//go:build linux

// Package authtest gives a test the service that decides who may come in. Only tests
// import it.
package authtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/services/auth"
	"bulkhead/services/auth/access"
	"bulkhead/services/auth/api"
	"bulkhead/services/run"
)

// Start starts the service and returns a client of it, and how to stop it before the
// test ends. The run directory's path is short: a socket's has 107 bytes.
func Start(t testing.TB, d run.Dirs, log *slog.Logger) (c *api.Client, stop func()) {
	t.Helper()
	for _, dir := range []string{d.RunDir("authd"), d.StateDir("authd")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- auth.Serve(ctx, log, d) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the access service ended: %v", err)
		}
	}
	t.Cleanup(stop)
	path := filepath.Join(d.Run, api.SocketFile)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return api.NewClient(path), stop
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Ownership is what the console shows of who may come in. Renew makes a new claim code.
func Ownership(ctx context.Context, c *api.Client, renew bool) (s access.State, err error) {
	var o api.Ownership
	if renew {
		err = c.Call(ctx, api.Asker{}, "POST", "/v1/claim/code", api.None{}, &o)
	} else {
		err = c.Call(ctx, api.Asker{}, "GET", "/v1/claim", nil, &o)
	}
	return access.State{Claimed: o.Claimed, Code: o.Code}, err
}
