//go:build linux

package webui_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	auth "bulkhead/services/auth/api"
)

// sample is a made-up netcfgd of a network that somebody may have.
type sample struct {
	*trials
	*quarantine
}

func (sample) Ports(context.Context) ([]api.Port, error) {
	return []api.Port{
		{Name: "enp1s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 1}, Driver: "igc", Carrier: true, Speed: 1000, Use: "wan", Uplink: true},
		{Name: "enp2s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 2}, Driver: "igc", Carrier: true, Speed: 2500, Use: "trunk"},
		{Name: "enp3s0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 3}, Driver: "igc"},
	}, nil
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
	s := sample{newTrials(b), newQuarantine()}
	b.answerAt(b.o.Flowd, sampleFlowd())
	b.netcfgd(api.NewServer(s, auth.NewClient(b.o.Authd), slog.New(slog.DiscardHandler)))
	updated := http.NewServeMux()
	updated.HandleFunc("GET /v1/checks", s.checks)
	newMachine().serve(updated)
	b.updated(updated)
	b.sampleSystem()
	return b, s.trials
}
