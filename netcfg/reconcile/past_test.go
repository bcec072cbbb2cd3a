//go:build linux

package reconcile_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// tellingDhcpd is a dhcpd that has answer to say to everybody. It returns its socket.
func tellingDhcpd(t *testing.T, answer string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), svcconf.HistorySocket)
	l, err := sock.Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sock.Serve(ctx, func() (net.Listener, error) { return l, nil }, 1, func(c net.Conn) {
			var mac model.MAC
			if _, err := io.ReadFull(c, mac[:]); err == nil {
				_, _ = io.WriteString(c, strings.ReplaceAll(answer, "MAC", mac.String()))
			}
		}, func(error) {})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return path
}

func TestHistoryIsAskedOfDhcpd(t *testing.T) {
	mac := model.MAC{2, 0, 0, 0, 0, 1}
	lease := `{"zone":"iot","address":"192.168.40.7","mac":"MAC","hostname":"tv","first":"2026-05-01T12:00:00Z","renewed":"2026-05-01T13:00:00Z","ends":"2026-05-01T14:00:00Z"}`
	for answer, want := range map[string]string{
		`{"leases":[` + lease + `],"older":3}`: "1 and 3 older, first 02:00:00:00:00:01",
		`{}`:                                   "0 and 0 older",
		``:                                     "EOF",
		`{"leases":[],"secrets":1}`:            "unknown field",
		`{"leases":[` + strings.Repeat(lease+",", 1000) + lease + `]}`: "more than 1000 leases",
		`{"leases":[` + strings.Repeat(" ", 1<<20) + `]}`:              "EOF",
	} {
		h, err := reconcile.AskHistory(t.Context(), tellingDhcpd(t, answer), mac)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprintf("%d and %d older", len(h.Leases), h.Older)
			if len(h.Leases) > 0 {
				got += ", first " + h.Leases[0].MAC.String()
			}
		}
		if !strings.Contains(got, want) {
			t.Errorf("%.80s: got %q, want %q", answer, got, want)
		}
	}
}
