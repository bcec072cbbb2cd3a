//go:build linux

package reconcile_test

import (
	"bytes"
	"testing"

	"bulkhead/netcfg/api"
)

// BenchmarkUndo measures how long it takes on a real kernel to put a change into force
// that is another set of 5,000 rules, and until the rules before it are in force again.
func BenchmarkUndo(b *testing.B) {
	r, _ := atNothing(b, []uint16{10, 11, 12, 13, 14, 15, 16, 17})
	defer started(b, r)()
	before := manyRules(5000)
	after := bytes.ReplaceAll(before, []byte("[https, tcp/"), []byte("[ssh, tcp/"))
	file := func(data []byte) api.Change { return api.Change{File: api.File{Name: "bench.yaml", Data: data}} }
	t, err := r.Apply(b.Context(), file(before))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.Confirm(b.Context(), api.Confirm{Token: t.Token, Origin: api.Origin{Connected: api.Uptime()}}); err != nil {
		b.Fatal(err)
	}
	try := func() {
		if _, err := r.Apply(b.Context(), file(after)); err != nil {
			b.Fatal(err)
		}
	}
	undo := func() {
		if _, err := r.Cancel(b.Context(), api.Cancel{}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("try", func(b *testing.B) {
		for b.Loop() {
			try()
			b.StopTimer()
			undo()
			b.StartTimer()
		}
	})
	b.Run("undo", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			try()
			b.StartTimer()
			undo()
		}
	})
}
