package remote_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/webui/remote"
)

func TestABoxThatStartsIsWaitedFor(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	other := errors.New("no route to host")
	for _, tt := range []struct {
		name    string
		answers func(tries int, passed time.Duration) error
		want    error
		passed  time.Duration // at most
	}{
		{"at once", func(int, time.Duration) error { return nil }, nil, 0},
		{"the third time", func(n int, _ time.Duration) error { return map[bool]error{true: refused}[n < 3] }, nil, time.Second},
		{"after nine seconds", func(_ int, d time.Duration) error { return map[bool]error{true: refused}[d < 9*time.Second] }, nil, 10 * time.Second},
		{"never", func(int, time.Duration) error { return refused }, syscall.ECONNREFUSED, 11 * time.Second},
		{"not there", func(int, time.Duration) error { return other }, other, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, tries := time.Now(), 0
				got, err := remote.Patiently(t.Context(), func() (string, error) {
					tries++
					return "box", tt.answers(tries, time.Since(start))
				})
				if !errors.Is(err, tt.want) || got != "box" || time.Since(start) > tt.passed {
					t.Errorf("got %s, %v after %s and %d tries", got, err, time.Since(start), tries)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := remote.Patiently(ctx, func() (string, error) { return "", refused }); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("given up on: got %v", err)
		}
	})
}
