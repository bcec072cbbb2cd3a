//go:build linux

package export_test

import (
	"encoding/json"
	"testing"
	"time"

	"bulkhead/services/export"
	"bulkhead/services/export/ipfix"
	"bulkhead/services/export/lines"
	"bulkhead/services/export/syslog"
	"bulkhead/services/flow/record"
)

// BenchmarkRecord is what a record costs exportd: to read it, once, and to write it, for
// each target.
func BenchmarkRecord(b *testing.B) {
	line, err := json.Marshal(films)
	if err != nil {
		b.Fatal(err)
	}
	items := []lines.Item{{Flow: &films}}
	enc := ipfix.New("internet", "iot")
	for name, f := range map[string]func(){
		"read":   func() { export.Decode(line) },
		"ipfix":  func() { enc.Flows(time.Time{}, []record.Record{films}) },
		"syslog": func() { syslog.Flow("gw", &films) },
		"json":   func() { _, _ = lines.Lines("gw", items) },
		"loki":   func() { _, _ = lines.Loki("gw", items) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
