//go:build linux

package throughput_test

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"bulkhead/images/kernel"
	"bulkhead/images/kernel/throughput"
	"bulkhead/images/lab/vm"
)

// TestMeasure measures one round: the guest itself makes sure that connections go the
// way that they are to be measured on. How fast they are is not tested.
func TestMeasure(t *testing.T) {
	lack := t.Skipf
	if os.Getenv("BULKHEAD_NEED_VM") == "1" {
		lack = t.Fatalf
	}
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		lack("%v", err)
	}
	if err := vm.Lacks(arch.Name); err != nil {
		lack("%v", err)
	}
	options, err := kernel.FromEnvironment(arch)
	if err != nil {
		lack("%v", err)
	}
	k, err := kernel.Lookup(t.Context(), options)
	if err != nil {
		lack("run make kernel: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	o := throughput.Options{Arch: arch, Kernel: k, Config: "../../../configs/zero-trust.yaml", Rounds: 1}
	ways, err := throughput.Measure(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		if len(w.Packets) != 1 || len(w.Mbit) != 1 || w.Packets[0] <= 0 || w.Mbit[0] <= 0 {
			t.Errorf("measured %+v, want a figure of each", w)
		}
	}
	var text strings.Builder
	if err := throughput.Print(&text, o, ways); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bare forwarding", "bulkhead, flowtable", "kpps", "Mbit/s"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, &text)
		}
	}
}
