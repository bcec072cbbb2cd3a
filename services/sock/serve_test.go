//go:build linux

package sock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/services/sock"
)

func TestServeAnswersAndClosesWhatIsOpen(t *testing.T) {
	path := filepath.Join(directory(t), "x.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done, waiting := make(chan error, 1), make(chan struct{})
	ready := make(chan struct{})
	go func() {
		done <- sock.Serve(ctx, func() (net.Listener, error) {
			defer close(ready)
			return sock.Listen(path, -1)
		}, 1, func(c net.Conn) {
			_, _ = io.WriteString(c, "hello")
			close(waiting)
			_, _ = io.Copy(io.Discard, c) // a caller that never hangs up
		}, func(err error) { t.Error(err) })
	}()
	<-ready
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-waiting
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
		t.Errorf("the caller got %q, %v", got, err)
	}
}

func TestServeTriesAgainAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		tried, said := 0, 0
		_ = sock.Serve(ctx, func() (net.Listener, error) {
			tried++
			return nil, os.ErrPermission
		}, 1, nil, func(error) { said++ })
		if tried < 9 || said != 1 {
			t.Errorf("tried %d times and said so %d times", tried, said)
		}
	})
}
