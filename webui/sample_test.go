//go:build linux

package webui_test

import (
	"log/slog"
	"testing"

	"bulkhead/netcfg/api"
	auth "bulkhead/services/auth/api"
)

// sample is a made-up netcfgd of a network that somebody may have.
type sample struct {
	*trials
}

// newSampleBox is newBox with the sample.
func newSampleBox(t *testing.T) *box {
	t.Helper()
	b, _ := newTrialBox(t)
	return b
}

// newTrialBox is newSampleBox, and returns who tries changes.
func newTrialBox(t *testing.T) (*box, *trials) {
	t.Helper()
	b := newEmptyBox(t)
	s := sample{newTrials(b)}
	b.netcfgd(api.NewServer(s, auth.NewClient(b.o.Authd), slog.New(slog.DiscardHandler)))
	return b, s.trials
}
