//go:build linux

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/txn"
	"bulkhead/services/file"
)

// BenchmarkLook measures what it costs to see that nobody has changed anything, which
// happens every few seconds, on a real kernel: beside the time, the CPU of process and
// kernel. The kernel may have no 802.1Q, so that each zone has a card of its own.
func BenchmarkLook(b *testing.B) {
	zeroTrust, err := os.ReadFile("../../configs/zero-trust.yaml")
	if err != nil {
		b.Fatal(err)
	}
	for _, box := range []struct {
		name  string
		file  []byte
		vlans []uint16
	}{
		{"zero-trust", zeroTrust, []uint16{10, 20, 30, 40, 50}},
		{"5000 rules", manyRules(5000), []uint16{10, 11, 12, 13, 14, 15, 16, 17}},
	} {
		b.Run(box.name, func(b *testing.B) {
			r, ns := settled(b, box.file, box.vlans)
			measure := func(name string, look func() bool) {
				b.Run(name, func(b *testing.B) {
					before := cpu(b)
					for b.Loop() {
						if look() {
							b.Fatal("the kernel is not as it was left")
						}
					}
					b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
				})
			}
			measure("nothing changed", r.Disturbed)
			// Somebody changes another table: ours has to be read.
			measure("rules elsewhere changed", func() bool {
				nstest.Exec(b, ns, "nft", "add", "table", "inet", "other")
				nstest.Exec(b, ns, "nft", "delete", "table", "inet", "other")
				return r.Disturbed()
			})
			// What somebody who fights may make the box do four times a second.
			measure("rules put right", func() bool {
				nstest.Exec(b, ns, "nft", "add", "rule", "inet", "bulkhead", "forward", "accept")
				r.Round()
				return r.Disturbed()
			})
			measure("address put right", func() bool {
				nstest.Exec(b, ns, "ip", "addr", "add", "10.99.99.1/24", "dev", fmt.Sprintf("zone%d", box.vlans[0]))
				r.Round()
				return r.Disturbed()
			})
		})
	}
}

// settled returns a reconciler that has brought a file into force in a namespace, and
// runs no more.
func settled(b *testing.B, config []byte, vlans []uint16) (r *reconcile.Reconciler, ns int) {
	b.Helper()
	r, ns = atNothing(b, vlans)
	stop := started(b, r)
	if _, err := r.Apply(b.Context(), api.Change{File: api.File{Name: "bench.yaml", Data: config}, Terms: api.Terms{Window: api.Window(txn.MaxWindow)}}); err != nil {
		b.Fatal(err)
	}
	stop()
	if r.Disturbed() {
		b.Fatal("the kernel is not as it was left")
	}
	return r, ns
}

// started runs a reconciler until it is stopped.
func started(b *testing.B, r *reconcile.Reconciler) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
	}
}

// atNothing returns a reconciler on a real kernel, in a namespace with a card for each
// VLAN, that has not run yet.
func atNothing(b *testing.B, vlans []uint16) (r *reconcile.Reconciler, ns int) {
	b.Helper()
	ns, there := nstest.New(b), nstest.New(b)
	var provided []facts.Provided
	for i, name := range []string{"wan", "trunk"} {
		nstest.Veth(b, ns, name, there, name)
		nstest.Exec(b, ns, "ip", "link", "set", name, "address", fmt.Sprintf("52:54:00:10:00:%02x", i+1))
	}
	for _, vlan := range vlans {
		link := fmt.Sprintf("zone%d", vlan)
		nstest.Veth(b, ns, link, there, link)
		provided = append(provided, facts.Provided{Port: "trunk", VLAN: vlan, Link: link})
	}
	dir := b.TempDir()
	kernel, err := apply.Open(ns, filepath.Join(dir, "ruleset.json"))
	if err != nil {
		b.Fatal(err)
	}
	conntrack, err := apply.OpenConntrack(ns)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(conntrack.Close(), kernel.Close()); err != nil {
			b.Error(err)
		}
	})
	store, err := txn.Open(filepath.Join(dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run", "netcfgd"), 0o755); err != nil {
		b.Fatal(err)
	}
	r = reconcile.New(reconcile.Options{
		Kernel: kernel, Conntrack: conntrack, Counters: new(fakeConntrack), Store: store, Run: filepath.Join(dir, "run"),
		Secrets:  secrets.Open(dir, dir, slog.New(slog.DiscardHandler), time.Now),
		Provided: provided, Log: slog.New(slog.DiscardHandler), Wall: time.Now, Uptime: api.Uptime, WatchFile: file.Watch,
	})
	return r, ns
}

// cpu is what this process has used so far, the kernel's work for it included.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// manyRules is a file with n rules between 200 devices in eight zones.
func manyRules(n int) []byte {
	const zones, devices = 8, 200
	var b strings.Builder
	b.WriteString("ports:\n  wan: {mac: \"52:54:00:10:00:01\"}\n  trunk: {mac: \"52:54:00:10:00:02\"}\ninternet: {port: wan}\nzones:\n")
	for i := range zones {
		fmt.Fprintf(&b, "  zone-%d: {port: trunk, vlan: %d, subnet: 10.0.%d.0/24, admin: %t}\n", i, 10+i, i, i == 0)
	}
	b.WriteString("devices:\n")
	for i := range devices {
		fmt.Fprintf(&b, "  device-%d: {zone: zone-%d, mac: \"52:54:00:20:00:%02x\", address: 10.0.%d.%d, owner: alex, purpose: none}\n", i, i%zones, i, i%zones, 2+i/zones)
	}
	b.WriteString("allow:\n")
	for i := range n {
		from, to := i%devices, (i+1+i/devices)%devices
		if from%zones == to%zones {
			to = (to + 1) % devices
		}
		fmt.Fprintf(&b, "  - {name: rule-%d, from: device-%d, to: device-%d, protocols: [https, tcp/%d], why: none}\n", i, from, to, 1000+i)
	}
	return []byte(b.String())
}
