//go:build linux

package reconcile

import (
	"encoding/json"
	"time"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/metrics"
)

// What tests need to see of the inside.
var (
	AskHistory  = askHistory
	JudgeOf     = judgeOf
	DecodeLease = decodeLease
)

// Rescue returns what is left of a configuration after it was reduced to a way in.
func Rescue(cfg *model.Config) (*model.Config, error) { return rescueOf(cfg).config() }

// CompileClosed compiles a configuration as for a box in rescue.
func CompileClosed(cfg *model.Config) {
	compile.Options{Closed: true}.Compile(cfg, compile.Offline(cfg, time.Time{}))
}

// DecodeRescue reads a rescue file.
func DecodeRescue(data []byte) (*model.Config, error) {
	var v rescue
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return v.config()
}

// LeasesFile is how leases are read.
type LeasesFile = leasesFile

// NewLeasesFile returns the reader of a file.
func NewLeasesFile(path string) *LeasesFile { return &leasesFile{path: path} }

// Read reads it.
func (l *leasesFile) Read() ([]svcconf.Lease, error) { return l.read() }

// Disturbed is what a look finds out. Nobody may be running r.
func (r *Reconciler) Disturbed() bool {
	disturbed, _ := r.disturbed()
	return disturbed
}

// Round is one round. Nobody may be running r.
func (r *Reconciler) Round() { r.round() }

// Metrics returns the page of metrics.
func (r *Reconciler) Metrics() []byte {
	p := metrics.NewPage("netcfg")
	r.metrics(p)
	return p.Bytes()
}
