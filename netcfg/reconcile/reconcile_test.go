//go:build linux

package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/apply/applytest"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
	updates "bulkhead/services/update/api"
)

// home is the configuration of these tests: two zones on two ports and an uplink.
const home = `
system: {name: gw, domain: home.arpa, timezone: UTC}
ports:
  wan: {mac: "52:54:00:10:00:01"}
  lan: {mac: "52:54:00:10:00:02"}
  iot: {mac: "52:54:00:10:00:03"}
internet: {port: wan, ipv4: dhcp, ipv6: none}
zones:
  office: {port: lan, subnet: 192.168.10.0/24, admin: true}
  gadgets: {port: iot, subnet: 192.168.40.0/24}
devices:
  tv: {zone: gadgets, mac: "52:54:00:40:00:12", owner: kim, purpose: television}
allow:
  - {name: browsing, from: office, to: internet, protocols: any, why: outbound}
  - {name: films, from: gadgets, to: office, protocols: [tcp/8096], why: films, owner: kim, expires: 2026-11-30}
tests:
  - {from: gadgets, to: office, protocols: [ssh], expect: deny}
`

// begin is when these tests begin, an hour before a rule ends.
var begin = time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)

// fakeKernel holds a network state and changes it as plan says a kernel would.
type fakeKernel struct {
	mu         sync.Mutex
	state      state.State
	links      []facts.Link
	flowtable  bool
	neighbours map[netip.Addr]model.MAC
	fail       func(plan.Step) error // nil: nothing fails
	steps      []string
	changed    chan struct{}
}

func newKernel() *fakeKernel {
	k := &fakeKernel{changed: make(chan struct{}, 1)}
	for i, name := range []string{"eth0", "eth1", "eth2"} {
		k.links = append(k.links, facts.Link{Name: name, MAC: fmt.Sprintf("52:54:00:10:00:%02x", i+1)})
		k.state.Links = append(k.state.Links, state.Link{Name: name})
	}
	// A machine on which somebody had switched forwarding on: the worst that can be.
	k.state.Sysctls = []state.Sysctl{{Key: "net/ipv4/ip_forward", Value: "1"}}
	return k
}

func (k *fakeKernel) Facts() ([]facts.Link, facts.Kernel, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.links), facts.Kernel{Flowtable: k.flowtable}, nil
}

func (k *fakeKernel) Observe(want state.State) (state.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.state
	s.Sysctls = nil
	for _, w := range want.Sysctls {
		s.Sysctls = append(s.Sysctls, state.Sysctl{Key: w.Key, Value: k.sysctl(w.Key)})
	}
	return s, nil
}

// sysctl is 0 for what nobody has set.
func (k *fakeKernel) sysctl(key string) string {
	i := slices.IndexFunc(k.state.Sysctls, func(s state.Sysctl) bool { return s.Key == key && s.Value != "" })
	if i < 0 {
		return "0"
	}
	return k.state.Sysctls[i].Value
}

func (k *fakeKernel) Do(s plan.Step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		if err := k.fail(s); err != nil {
			return err
		}
	}
	k.state = plan.After(k.state, s.Change)
	k.steps = append(k.steps, s.Sentence)
	return nil
}

func (k *fakeKernel) Watch(ctx context.Context) (<-chan struct{}, error) { return k.changed, nil }

func (k *fakeKernel) Neighbours() (map[netip.Addr]model.MAC, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.neighbours), nil
}

func (k *fakeKernel) Culprit(f plan.Finding) string { return "culprit of " + string(f.Kind) }

// mess changes the state as a stranger would, and lets the watcher know.
func (k *fakeKernel) mess(f func(*state.State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Addrs, k.state.Routes = slices.Clone(k.state.Addrs), slices.Clone(k.state.Routes)
	f(&k.state)
	k.changed <- struct{}{}
}

func (k *fakeKernel) refuse(fail func(plan.Step) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = fail
}

// done returns the steps since it was last called.
func (k *fakeKernel) done() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	steps := k.steps
	k.steps = nil
	return steps
}

func (k *fakeKernel) forwarding() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sysctl("net/ipv4/ip_forward") == "1"
}

func (k *fakeKernel) addresses() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []string
	for _, a := range k.state.Addrs {
		list = append(list, a.Link+" "+a.Prefix.String())
	}
	return strings.Join(list, ", ")
}

// fakeConntrack is a table of connections.
type fakeConntrack struct {
	mu     sync.Mutex
	conns  []apply.Conn
	sweeps int
	fail   error
}

func (c *fakeConntrack) Sweep(judge func(apply.Conn) (bool, uint32)) (deleted, remarked int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweeps++
	if c.fail != nil {
		return 0, 0, c.fail
	}
	var kept []apply.Conn
	for _, conn := range c.conns {
		keep, mark := judge(conn)
		switch {
		case !keep:
			deleted++
			continue
		case mark != conn.Mark:
			conn.Mark = mark
			remarked++
		}
		kept = append(kept, conn)
	}
	c.conns = kept
	return deleted, remarked, nil
}

func (c *fakeConntrack) Each(f func(apply.Conn)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		f(conn)
	}
	return c.fail
}

func (c *fakeConntrack) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// refusedInTests is what was refused, as is told.
var refusedInTests = []api.Counter{
	{Name: "gadgets.spoofed", Packets: 2, Bytes: 80}, {Name: "gadgets_office", Packets: 3, Bytes: 180}, {Name: "nowhere", Packets: 1, Bytes: 40},
}

func (c *fakeConntrack) Counters() (map[string]apply.Counter, error) {
	counters := make(map[string]apply.Counter)
	for _, c := range refusedInTests {
		counters[c.Name] = apply.Counter{Packets: c.Packets, Bytes: c.Bytes}
	}
	return counters, nil
}

// conn is a TCP connection between two addresses.
func conn(src, dst string, port uint16) apply.Conn {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	return apply.Conn{
		Orig:  apply.Tuple{Src: s, Dst: d, Proto: model.ProtoTCP, SrcPort: 40000, DstPort: port},
		Reply: apply.Tuple{Src: d, Dst: s, Proto: model.ProtoTCP, SrcPort: port, DstPort: 40000},
	}
}

// box is a reconciler with fakes around it, in a synctest bubble.
type box struct {
	t          *testing.T
	kernel     *fakeKernel
	linux      *applytest.Kernel // in its place; nil: it is used
	conntrack  *fakeConntrack
	run, state string
	setup      bool
	skew       atomic.Int64 // nanoseconds by which the clock on the wall is ahead
	file       chan struct{}
	log        *slog.Logger
	r          *reconcile.Reconciler
	stop       func()
	updates    interface { // updated, for backups
		Keys(context.Context) (updates.Keys, error)
	}
}

func newBox(t *testing.T) *box {
	dir := t.TempDir()
	b := &box{t: t, kernel: newKernel(), conntrack: new(fakeConntrack),
		log: slog.New(slog.DiscardHandler), run: filepath.Join(dir, "run"), state: filepath.Join(dir, "state")}
	b.setClock(time.Until(begin))
	if err := os.MkdirAll(filepath.Join(b.run, "netcfgd"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// boot starts a reconciler as after a start of the process, and lets it settle.
func (b *box) boot() {
	b.t.Helper()
	store, noState := txn.Open(b.state)
	if store == nil {
		b.t.Fatal(noState)
	}
	b.file = make(chan struct{}, 1)
	file := b.file
	o := reconcile.Options{
		Kernel: b.kernel, Conntrack: b.conntrack, Counters: b.conntrack, Store: store, NoState: noState, Setup: b.setup, Run: b.run, State: filepath.Join(b.run, "..", "services"),
		Secrets:   secrets.Open(b.state, b.state, b.log, b.wall),
		Log:       b.log,
		Wall:      b.wall,
		Uptime:    uptime,
		Updates:   b.updates,
		WatchFile: func(context.Context, string) (<-chan struct{}, error) { return file, nil },
	}
	if b.linux != nil {
		o.Kernel = b.linux
	}
	b.r = reconcile.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	b.kernel.changed = make(chan struct{}, 1)
	changed := b.kernel.changed
	go func() { done <- b.r.Run(ctx) }()
	b.stop = func() {
		cancel()
		close(changed)
		close(file)
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.t.Errorf("run: %v", err)
		}
	}
	synctest.Wait()
}

func (b *box) wall() time.Time { return time.Now().Add(time.Duration(b.skew.Load())) }

// setClock sets the clock on the wall forward by d.
func (b *box) setClock(d time.Duration) { b.skew.Add(int64(d)) }

// uptime is the time since boot, in a bubble.
func uptime() time.Duration { return time.Duration(time.Now().UnixNano()) }

// change is a change to a file.
func change(file string) api.Change {
	return api.Change{File: api.File{Name: "home.yaml", Data: []byte(file)}, Author: "alex", Why: "a test"}
}

// apply tries a file and confirms it.
func (b *box) apply(file string) (*api.Plan, error) { return b.keep(b.try(file)) }

// try tries a file.
func (b *box) try(file string) (*api.Trial, error) { return b.r.Apply(b.t.Context(), change(file)) }

// keep confirms a trial.
func (b *box) keep(t *api.Trial, err error) (*api.Plan, error) {
	if err != nil {
		return nil, err
	}
	return t.Plan, b.confirm(t.Token)
}

// confirm confirms a trial over a new connection.
func (b *box) confirm(token string) error {
	_, err := b.r.Confirm(b.t.Context(), api.Confirm{Token: token, Origin: api.Origin{Connected: uptime() + 1}})
	return err
}

func (b *box) mustApply(file string) {
	b.t.Helper()
	if _, err := b.apply(file); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) status() *api.Status {
	b.t.Helper()
	s, err := b.r.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// allows says whether the rules in force let the gadgets into the office.
func (b *box) allows() bool {
	b.t.Helper()
	why, err := b.r.Why(b.t.Context(), "gadgets", "office", "tcp/8096")
	if err != nil {
		b.t.Fatal(err)
	}
	return why.Allowed()
}

func (b *box) confirmed() string {
	data, err := os.ReadFile(filepath.Join(b.state, "confirmed.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *box) config(service string, v any) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.run, service, svcconf.ConfigFile))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) writeLease(l facts.Lease) {
	b.t.Helper()
	data, err := json.Marshal(l)
	if err != nil {
		b.t.Fatal(err)
	}
	b.writeUplink(data)
}

func (b *box) writeUplink(data []byte) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.run, "wand", svcconf.UplinkFile), data, 0o640); err != nil {
		b.t.Fatal(err)
	}
	b.file <- struct{}{}
	wait(time.Second)
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestABoxWithoutRulesIsClosedBeforeAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		steps := b.kernel.done()
		if len(steps) < 2 || !strings.HasPrefix(steps[0], "stop passing packets") || !strings.HasPrefix(steps[1], "load the rules") {
			t.Errorf("the first steps are %q", steps)
		}
		if b.kernel.forwarding() || b.kernel.addresses() != "" {
			t.Errorf("a box without a configuration forwards: %t, has addresses: %q", b.kernel.forwarding(), b.kernel.addresses())
		}
		s := b.status()
		if s.Mode != api.Closed || s.Reason != "no configuration has been applied yet" {
			t.Errorf("status is %s: %q", s.Mode, s.Reason)
		}

		b.mustApply(home)
		if s := b.status(); s.Mode != api.Running || !b.kernel.forwarding() || s.Confirmed.Author != "alex" {
			t.Errorf("after applying a file: %+v", s)
		}
	})
}

func TestApplyingTwiceAndStartingAgainChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.kernel.done()
		p, err := b.apply(home)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Steps) > 0 || len(p.Reach) > 0 || len(b.kernel.done()) > 0 {
			t.Errorf("the second time: %+v", p)
		}
		b.stop()
		b.boot()
		defer func() { b.stop() }()
		wait(10 * time.Minute)
		if steps := b.kernel.done(); len(steps) > 0 {
			t.Errorf("after a start of the process: %q", steps)
		}
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24, eth2 192.168.40.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
	})
}

func TestABrokenConfirmedFileLeavesOnlyTheAdminZones(t *testing.T) {
	tests := []struct{ name, file, reason string }{
		{"not YAML", "zones: [", "the confirmed configuration cannot be used: confirmed.yaml:"},
		{"an error in it", strings.Replace(home, "port: iot,", "port: xyz,", 1), "the confirmed configuration cannot be used: confirmed.yaml:"},
		{"gone", "", "no configuration has been applied yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				b.mustApply(home)
				b.stop()
				path := filepath.Join(b.state, "confirmed.yaml")
				err := errors.Join(os.Remove(path), os.RemoveAll(filepath.Join(b.state, "history")))
				if tt.file != "" {
					err = os.WriteFile(path, []byte(tt.file), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				b.kernel = newKernel() // the machine was started anew
				b.boot()
				defer func() { b.stop() }()

				if s := b.status(); s.Mode != api.Closed || !strings.HasPrefix(s.Reason, tt.reason) {
					t.Errorf("status is %s: %q", s.Mode, s.Reason)
				}
				if b.kernel.forwarding() {
					t.Error("the box forwards")
				}
				if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24"; got != want {
					t.Errorf("got addresses %q, want %q", got, want)
				}
				var dhcp svcconf.DHCP
				if b.config("dhcpd", &dhcp); len(dhcp.Zones) != 1 || dhcp.Zones[0].Zone != "office" {
					t.Errorf("dhcpd serves %+v", dhcp.Zones)
				}
				var wan svcconf.WAN
				if b.config("wand", &wan); wan.Link != "" {
					t.Errorf("wand asks at %s", wan.Link)
				}
				zones, err := b.r.Zones(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(zones) != 1 || zones[0].Name != "office" || zones[0].Gateway.String() != "192.168.10.1" || !zones[0].Admin {
					t.Errorf("the way in is %+v", zones)
				}
				b.mustApply(home)
				if s := b.status(); s.Mode != api.Running || !b.kernel.forwarding() {
					t.Errorf("after applying a good file: %s", s.Mode)
				}
			})
		})
	}
}

func TestWithoutAnyTraceOfAConfigurationEverythingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		if err := os.MkdirAll(b.state, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"confirmed.yaml": "\x00", "rescue.json": `{"zones":[{"name":"x","port":"none"}]}`} {
			if err := os.WriteFile(filepath.Join(b.state, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.boot()
		defer func() { b.stop() }()
		if s := b.status(); s.Mode != api.Closed || b.kernel.forwarding() || b.kernel.addresses() != "" {
			t.Errorf("status %+v, forwarding %t, addresses %q", s, b.kernel.forwarding(), b.kernel.addresses())
		}
	})
}

func TestAStateDirectoryThatCannotBeWrittenIsReadAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.stop()
		// A change was left on trial, and there is no way to forget it.
		history := filepath.Join(b.state, "history")
		if err := os.RemoveAll(history); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{history, filepath.Join(b.state, "staged.json")} {
			if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.kernel = newKernel()
		b.boot()
		defer func() { b.stop() }()
		s := b.status()
		if s.Mode != api.Running || !b.kernel.forwarding() {
			t.Errorf("status is %s: %q", s.Mode, s.Reason)
		}
		if len(s.Troubles) != 1 || !strings.HasPrefix(s.Troubles[0], "nothing can be confirmed, as the state directory cannot be written: ") {
			t.Errorf("troubles %q", s.Troubles)
		}
		next := strings.Replace(home, "name: browsing", "name: surfing", 1)
		if _, err := b.apply(next); err == nil || b.confirmed() != home {
			t.Errorf("a change was taken: %v", err)
		}
		if err := os.Remove(history); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if s := b.status(); len(s.Troubles) != 0 {
			t.Errorf("once it can be written: troubles %q", s.Troubles)
		}
		b.mustApply(next)
	})
}

func TestWithoutAFileForAddressesOnlyTheDevicesLackThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		files := []string{filepath.Join(b.state, "addresses.json"), filepath.Join(b.state, "trial-addresses.json")}
		for _, file := range files {
			if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		s := b.status()
		if s.Mode != api.Running || len(s.Troubles) != 1 || !strings.HasPrefix(s.Troubles[0], "give devices an address: ") {
			t.Errorf("status is %s, troubles %q", s.Mode, s.Troubles)
		}
		var dhcp svcconf.DHCP
		b.config("dhcpd", &dhcp)
		for _, z := range dhcp.Zones {
			if len(z.Reservations) > 0 {
				t.Errorf("an address that is not on disk is given out: %+v", z.Reservations)
			}
		}
		for _, file := range files {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
		}
		wait(time.Minute)
		if devices, err := b.r.Devices(t.Context()); err != nil || !devices[0].Address.IsValid() || len(b.status().Troubles) > 0 {
			t.Errorf("once there is one: %+v, %v, troubles %q", devices, err, b.status().Troubles)
		}
	})
}

// end is the first instant at which the rule "films" is gone.
var end = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

func TestARuleEndsOnTimeWithItsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.conntrack.conns = []apply.Conn{
			conn("192.168.40.7", "192.168.10.5", 8096),
			conn("192.168.10.5", "198.51.100.1", 443), // allowed by another rule
		}
		wait(end.Sub(begin) - time.Millisecond)
		if !b.allows() || b.conntrack.open() != 2 {
			t.Fatalf("just before: allowed %t, %d connections", b.allows(), b.conntrack.open())
		}
		wait(time.Millisecond)
		if b.allows() || b.conntrack.open() != 1 {
			t.Errorf("at the end: allowed %t, %d connections", b.allows(), b.conntrack.open())
		}
		if b.conntrack.conns[0].Mark == 0 {
			t.Error("the connection that stays is not marked with its rule")
		}
		if s := b.status(); s.Cut != 1 {
			t.Errorf("status counts %d ended connections", s.Cut)
		}
	})
}

func TestAnEndedRuleStaysEndedWhateverTheClockSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.setClock(end.Sub(begin)) // the clock is set forward
		wait(2 * time.Second)
		if b.allows() {
			t.Error("still allowed two seconds after the clock was set past the end")
		}
		b.setClock(-end.Sub(begin)) // and back
		wait(time.Hour)
		if b.allows() {
			t.Error("allowed again after the clock was set back")
		}
		b.stop()
		b.kernel = newKernel()
		b.setClock(-30 * 24 * time.Hour) // a boot with a flat battery
		b.boot()
		defer func() { b.stop() }()
		wait(time.Hour)
		if b.allows() {
			t.Error("allowed again after a boot with a clock in the past")
		}
		if _, err := b.apply("zones: ["); err == nil {
			t.Fatal("a broken file was taken")
		}
		wait(time.Minute)
		if b.allows() {
			t.Error("allowed again after a file was refused")
		}
		b.mustApply(home) // somebody's decision, with this clock
		if !b.allows() {
			t.Error("not allowed after the file was applied anew")
		}
	})
}

func TestARuleEndsOnTimeThoughTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		wait(30 * time.Minute)
		b.setClock(-24 * time.Hour)
		wait(end.Sub(begin) - 30*time.Minute - time.Millisecond)
		if !b.allows() {
			t.Error("not allowed just before the end")
		}
		wait(time.Millisecond)
		if b.allows() {
			t.Error("allowed after the end")
		}
		if s := b.status(); s.Now.Before(end) {
			t.Errorf("status says that it is %s", s.Now)
		}
		b.stop()
		b.boot() // the mark was saved
		defer func() { b.stop() }()
		if b.allows() {
			t.Error("allowed again after a start of the process")
		}
	})
}

func TestAChangeThatFailsDoesNotBringBackWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		wait(end.Sub(begin) + time.Hour)
		b.setClock(-24 * time.Hour)
		loads := 0
		b.kernel.refuse(func(s plan.Step) error {
			c, ok := s.Change.(plan.LoadRuleset)
			if !ok {
				return nil
			}
			if loads++; loads == 1 {
				return errors.New("no buffer space available")
			}
			if strings.Contains(c.To.Table.String(), "films") {
				t.Error("going back loads the rule that has ended")
			}
			return nil
		})
		if _, err := b.apply(strings.Replace(home, "name: browsing", "name: surfing", 1)); err == nil {
			t.Fatal("nothing failed")
		}
		b.kernel.refuse(nil)
		if b.allows() {
			t.Error("allowed again after a change that failed")
		}
		b.stop() // before another round saves the time
		b.boot()
		defer func() { b.stop() }()
		if b.allows() {
			t.Error("allowed again after a start of the process")
		}
	})
}

func TestALeaseIsNoLongerForARestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		skew time.Duration // of the clock while the process was away
		want time.Duration // that the lease is good for after it
	}{
		{"the clock is right", 0, 30 * time.Minute},
		{"the clock was set forward", 30 * 24 * time.Hour, time.Hour},
		{"the clock was set back", -30 * 24 * time.Hour, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				b.mustApply(home)
				b.writeLease(facts.Lease{
					Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
					Obtained: begin, Expires: begin.Add(time.Hour),
				})
				wait(30*time.Minute - time.Second)
				b.stop()
				b.setClock(tt.skew)
				b.boot()
				defer func() { b.stop() }()
				wait(tt.want - time.Second)
				if s := b.status(); s.Uplink == nil {
					t.Error("taken too early")
				}
				wait(2 * time.Second)
				if s := b.status(); s.Uplink != nil {
					t.Error("still held when nobody renewed it")
				}
			})
		})
	}
}

func TestTheUplinkFollowsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		const zones = "eth1 192.168.10.1/24, eth2 192.168.40.1/24"
		const withUplink = "eth0 198.51.100.7/24, " + zones
		check := func(when, want string) {
			t.Helper()
			if got := b.kernel.addresses(); got != want {
				t.Errorf("%s: got addresses %q, want %q", when, got, want)
			}
		}
		lease := facts.Lease{
			Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
			Obtained: begin, Expires: begin.Add(time.Hour),
		}
		b.writeLease(lease)
		check("with a lease", withUplink)
		if s := b.status(); s.Uplink == nil || s.Uplink.Address != lease.Address || !s.Uplink.Expires.Equal(lease.Expires) {
			t.Errorf("status shows uplink %+v", s.Uplink)
		}
		b.setClock(48 * time.Hour) // the clock learns the right time: the lease is as good as before
		wait(30 * time.Minute)
		check("after the clock was set", withUplink)
		b.setClock(-48 * time.Hour)
		wait(31 * time.Minute)
		check("when nobody renews it", zones)

		lease.Obtained = lease.Obtained.Add(time.Hour)
		lease.Expires = lease.Expires.Add(time.Hour)
		b.writeLease(lease)
		check("renewed", withUplink)
		if err := os.Remove(filepath.Join(b.run, "wand", svcconf.UplinkFile)); err != nil {
			t.Fatal(err)
		}
		b.file <- struct{}{}
		wait(time.Second)
		check("taken back", zones)

		other := lease
		other.Link = "eth1"
		b.writeLease(other)
		check("for a link that is not the uplink", zones)
		for _, bad := range []string{"{", `{"link":"eth0","address":"127.0.0.1/8"}`, `{"link":"eth0","address":"10.0.0.1/0"}`, `{"link":"eth0"}`} {
			b.writeUplink([]byte(bad))
			check("after "+bad, zones)
			if s := b.status(); len(s.Troubles) != 1 || !strings.HasPrefix(s.Troubles[0], "uplink: uplink.json: ") {
				t.Errorf("after %s: troubles %q", bad, s.Troubles)
			}
		}
	})
}

func TestAFailingStepIsShownRetriedAndHarmsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.stop()
		b.kernel = newKernel()
		b.kernel.refuse(func(s plan.Step) error {
			if c, ok := s.Change.(plan.AddAddr); ok && c.Addr.Link == "eth2" {
				return errors.New("no such device")
			}
			return nil
		})
		b.boot()
		defer func() { b.stop() }()
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
		s := b.status()
		want := []string{"give eth2 the address 192.168.40.1/24 (zone gadgets): no such device"}
		if diff := cmp.Diff(want, s.Troubles); s.Mode != api.Running || diff != "" {
			t.Errorf("mode %s, troubles differ (-want +got):\n%s", s.Mode, diff)
		}
		// What is broken anyway does not keep the rest from being changed.
		b.mustApply(strings.Replace(home, "name: browsing", "name: surfing", 1))
		if _, err := b.apply(strings.Replace(home, "192.168.40.0/24", "192.168.41.0/24", 1)); err == nil {
			t.Error("a change that fails itself was taken")
		}
		b.kernel.refuse(nil)
		wait(31 * time.Second) // the longest pause between two tries
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24, eth2 192.168.40.1/24"; got != want {
			t.Errorf("after recovery: got addresses %q, want %q", got, want)
		}
		if s := b.status(); len(s.Troubles) != 0 {
			t.Errorf("after recovery: troubles %q", s.Troubles)
		}
	})
}

func TestAChangeThatFailsIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.kernel.refuse(func(s plan.Step) error {
			if s.Change.Op() == plan.OpLoadRuleset {
				return errors.New("no buffer space available")
			}
			return nil
		})
		_, err := b.apply(strings.Replace(home, "tcp/8096", "tcp/8097", 1))
		if err == nil || !strings.Contains(err.Error(), "no buffer space available") {
			t.Errorf("got error %v", err)
		}
		if b.confirmed() != home {
			t.Error("the confirmed file is another")
		}
		if s := b.status(); s.Mode != api.Running || len(s.Troubles) > 0 || !b.allows() {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAFileWithProblemsOrFailingTestsChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.kernel.done()
		_, err := b.apply(strings.ReplaceAll(strings.Replace(home, "port: iot,", "port: xyz,", 1), "to: internet", "to: intranet"))
		refused, ok := errors.AsType[*api.Refused](err)
		if !ok || len(refused.Problems) != 2 {
			t.Errorf("two mistakes: got %v", err)
		}
		_, err = b.apply(strings.Replace(home, "tcp/8096", "ssh", 1))
		refused, ok = errors.AsType[*api.Refused](err)
		if !ok || len(refused.Failed) != 1 || refused.Failed[0].Against.Rule != "films" {
			t.Errorf("a failing test: got %v", err)
		}
		if steps := b.kernel.done(); len(steps) > 0 || b.confirmed() != home {
			t.Errorf("steps %q", steps)
		}
	})
}

func TestRulesThatDoNotLoadAtBootLeadToRescueAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		b.mustApply(home)
		b.stop()
		b.kernel = newKernel()
		b.kernel.refuse(func(s plan.Step) error {
			c, ok := s.Change.(plan.LoadRuleset)
			if ok && slices.Contains(c.To.Table.Counters, "gadgets_office") { // not the closed rules, not those of rescue
				return errors.New("no buffer space available")
			}
			return nil
		})
		b.boot()
		defer func() { b.stop() }()
		wait(20 * time.Second)
		s := b.status()
		if s.Mode != api.Closed || !strings.HasPrefix(s.Reason, "the confirmed rules cannot be loaded: ") || b.kernel.forwarding() {
			t.Fatalf("status %s: %q, troubles %q", s.Mode, s.Reason, s.Troubles)
		}
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
		b.kernel.refuse(nil)
		wait(time.Minute)
		if s := b.status(); s.Mode != api.Running || !b.kernel.forwarding() {
			t.Errorf("after recovery: %s: %q", s.Mode, s.Reason)
		}
	})
}

// TestRulesLoadWithoutTheirFlowtable has a kernel refuse flowtables, as it does for a
// moment when a network card is pulled: the rules come into force without.
func TestRulesLoadWithoutTheirFlowtable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.kernel.flowtable = true
		loaded := func() int {
			b.kernel.mu.Lock()
			defer b.kernel.mu.Unlock()
			return len(b.kernel.state.Ruleset.Table.Flowtables)
		}
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		if loaded() != 1 {
			t.Fatal("no flowtable from the start: there is nothing to test")
		}
		b.kernel.refuse(func(s plan.Step) error {
			if c, ok := s.Change.(plan.LoadRuleset); ok && len(c.To.Table.Flowtables) > 0 {
				return errors.New("no such file or directory")
			}
			return nil
		})
		b.mustApply(strings.Replace(home, "8096", "8097", 1))
		wait(5 * time.Minute)
		s := b.status()
		if s.Mode != api.Running || !b.kernel.forwarding() || b.allows() || loaded() != 0 {
			t.Errorf("%s: %q, the old rules: %t, flowtables: %d", s.Mode, s.Reason, b.allows(), loaded())
		}
		if len(s.Troubles) != 1 || !strings.HasPrefix(s.Troubles[0], "slower without a flowtable: ") {
			t.Errorf("troubles %q", s.Troubles)
		}
		b.kernel.done()
		wait(5 * time.Minute)
		if steps := b.kernel.done(); len(steps) > 0 {
			t.Errorf("done again and again: %q", steps)
		}
		b.kernel.refuse(nil)
		wait(time.Minute)
		if s := b.status(); len(s.Troubles) > 0 || loaded() != 1 {
			t.Errorf("after recovery: troubles %q, %d flowtables", s.Troubles, loaded())
		}
	})
}

func TestNoServiceCanVetoAChange(t *testing.T) {
	// What a service that was taken over can do with what is its own.
	tests := []struct {
		name, trouble string
		do            func(b *box, try int)
	}{
		{"a directory for a configuration", "configure dhcpd: ", func(b *box, _ int) {
			path := filepath.Join(b.run, "dhcpd", svcconf.ConfigFile)
			if err := os.RemoveAll(path); err != nil {
				b.t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil {
				b.t.Fatal(err)
			}
		}},
		{"nonsense as a lease", "uplink: ", func(b *box, try int) { b.writeUplink(fmt.Appendf(nil, `{"link":%d}`, try)) }},
		{"nonsense as leases", "leases: ", func(b *box, try int) {
			if err := os.WriteFile(filepath.Join(b.run, "dhcpd", svcconf.LeasesFile), fmt.Append(nil, try), 0o640); err != nil {
				b.t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.boot()
				defer func() { b.stop() }()
				b.mustApply(home)
				for try, port := range []string{"tcp/8097", "tcp/8098"} {
					tt.do(b, try)
					next := strings.Replace(home, "tcp/8096", port, 1)
					b.mustApply(next)
					if b.confirmed() != next {
						t.Error("the change is not confirmed")
					}
				}
				wait(time.Minute)
				if s := b.status(); len(s.Troubles) != 1 || !strings.HasPrefix(s.Troubles[0], tt.trouble) {
					t.Errorf("troubles %q, want one of %q", s.Troubles, tt.trouble)
				}
			})
		})
	}
}

func TestLastingTroubleIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		var log strings.Builder
		b.log = slog.New(slog.NewTextHandler(&log, nil))
		b.boot()
		b.mustApply(home)
		if err := os.Remove(filepath.Join(b.run, "dnsd", svcconf.ConfigFile)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(b.run, "dnsd", svcconf.ConfigFile, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Minute)
		b.stop()
		if n := strings.Count(log.String(), "configure dnsd"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
	})
}

func TestUplinkIsTakenNoMoreOfThanItMayHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		lease := facts.Lease{
			Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1"),
			Resolvers: []netip.Addr{netip.MustParseAddr("127.0.0.53")},
		}
		for a := netip.MustParseAddr("9.9.9.1"); len(lease.Resolvers) < 2000; a = a.Next() {
			lease.Resolvers = append(lease.Resolvers, a)
		}
		b.writeLease(lease)
		var dns svcconf.DNS
		if b.config("dnsd", &dns); len(dns.Resolvers) != 8 || dns.Resolvers[0].Addr != netip.MustParseAddrPort("9.9.9.1:53") {
			t.Errorf("dnsd asks %v", dns.Resolvers)
		}
		data, err := json.Marshal(lease)
		if err != nil {
			t.Fatal(err)
		}
		b.writeUplink(append(data, make([]byte, 64<<10)...))
		if s := b.status(); s.Uplink != nil || len(s.Troubles) != 1 || !strings.Contains(s.Troubles[0], "larger than") {
			t.Errorf("a huge file: uplink %+v, troubles %q", s.Uplink, s.Troubles)
		}
	})
}

func TestDriftIsRepairedAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.kernel.done()
		b.conntrack.conns = []apply.Conn{conn("192.168.40.7", "192.168.10.5", 22)} // came in while there were no rules
		b.kernel.mess(func(s *state.State) {
			s.Addrs = s.Addrs[1:]
			s.Ruleset = state.Ruleset{}
		})
		wait(500 * time.Millisecond)
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24, eth2 192.168.40.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
		if !b.kernel.state.Ruleset.Present() || b.conntrack.open() != 0 {
			t.Errorf("rules are back: %t, connections: %d", b.kernel.state.Ruleset.Present(), b.conntrack.open())
		}
		if s := b.status(); s.Repairs < 2 || s.Repaired == nil {
			t.Errorf("status reports %d repairs: %+v", s.Repairs, s.Repaired)
		}
	})
}

func TestDriftThatNobodyAnnouncedIsFoundByLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.kernel.mu.Lock()
		b.kernel.state.Addrs = nil
		b.kernel.mu.Unlock()
		wait(10 * time.Second)
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24, eth2 192.168.40.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
	})
}

func TestConnectionsAreJudgedAgainWhenThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		b.conntrack.conns = []apply.Conn{conn("192.168.40.7", "192.168.10.5", 8096)}
		b.conntrack.fail = errors.New("interrupted")
		if _, err := b.apply(strings.Replace(home, "tcp/8096", "tcp/8097", 1)); err == nil {
			t.Error("a change whose connections cannot be ended was taken")
		}
		b.conntrack.mu.Lock()
		b.conntrack.fail = nil
		b.conntrack.mu.Unlock()
		wait(5 * time.Second)
		if s := b.status(); len(s.Troubles) > 0 || !b.allows() || b.conntrack.open() != 1 {
			t.Errorf("troubles %q, connections %d", s.Troubles, b.conntrack.open())
		}
	})
}

func TestADeviceKeepsTheAddressItWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		// The television already holds a lease from before it was in the inventory.
		lease := svcconf.Lease{Zone: "gadgets", Address: netip.MustParseAddr("192.168.40.200"), MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Expires: begin.Add(time.Hour)}
		b.boot()
		data, err := json.Marshal(svcconf.Leases{Leases: []svcconf.Lease{lease}})
		if err != nil {
			t.Fatal(err)
		}
		leases := filepath.Join(b.run, "dhcpd", svcconf.LeasesFile)
		if err := os.WriteFile(leases, data, 0o640); err != nil {
			t.Fatal(err)
		}
		address := func() string {
			t.Helper()
			devices, err := b.r.Devices(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return devices[0].Address.String()
		}
		b.mustApply(home)
		if got := address(); got != lease.Address.String() {
			t.Errorf("got address %s, want that of the lease", got)
		}
		b.stop()
		if err := os.Remove(leases); err != nil {
			t.Fatal(err)
		}
		b.boot()
		defer func() { b.stop() }()
		if got := address(); got != lease.Address.String() {
			t.Errorf("after a start of the process: got address %s", got)
		}
		var dhcp svcconf.DHCP
		b.config("dhcpd", &dhcp)
		i := slices.IndexFunc(dhcp.Zones, func(z svcconf.DHCPZone) bool { return z.Zone == "gadgets" })
		want := []svcconf.Reservation{{Name: "tv", MAC: lease.MAC, Address: lease.Address}}
		if diff := cmp.Diff(want, dhcp.Zones[i].Reservations, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("reservations differ (-want +got):\n%s", diff)
		}
		// A change on trial that fails does not cost it its address.
		b.kernel.refuse(func(plan.Step) error { return errors.New("no") })
		without := strings.Replace(home, "  tv: {zone", "  radio: {zone", 1)
		if _, err := b.apply(without); err == nil {
			t.Fatal("nothing failed")
		}
		b.kernel.refuse(nil)
		wait(time.Minute)
		if got := address(); got != lease.Address.String() {
			t.Errorf("after a change that failed: got address %s", got)
		}
	})
}

func TestAMissingPortIsReportedAndTheRestWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.kernel.links = b.kernel.links[:2]
		b.boot()
		defer func() { b.stop() }()
		p, err := b.apply(home)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"gadgets: port iot is missing: no network card has the MAC 52:54:00:10:00:03"}
		if diff := cmp.Diff(want, p.Missing); diff != "" {
			t.Errorf("missing differs (-want +got):\n%s", diff)
		}
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24"; got != want {
			t.Errorf("got addresses %q, want %q", got, want)
		}
		b.kernel.mu.Lock()
		b.kernel.links = append(b.kernel.links, facts.Link{Name: "eth2", MAC: "52:54:00:10:00:03"})
		b.kernel.mu.Unlock()
		b.kernel.changed <- struct{}{} // it is plugged in
		wait(time.Second)
		if got, want := b.kernel.addresses(), "eth1 192.168.10.1/24, eth2 192.168.40.1/24"; got != want {
			t.Errorf("plugged in: got addresses %q, want %q", got, want)
		}
	})
}

func TestServicesGetTheirFilesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		if err := os.RemoveAll(filepath.Join(b.run, "dhcpd")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.run, "dnsd", svcconf.ConfigFile), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute + time.Second)
		var dhcp svcconf.DHCP
		if b.config("dhcpd", &dhcp); len(dhcp.Zones) != 2 {
			t.Errorf("dhcpd serves %+v", dhcp.Zones)
		}
		var dns svcconf.DNS
		if b.config("dnsd", &dns); len(dns.Zones) != 2 {
			t.Errorf("dnsd serves %+v", dns.Zones)
		}
	})
}

func TestAConfigurationWithoutAnUplinkIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		if b.status().NoUplink {
			t.Error("told of a box without a configuration")
		}
		b.mustApply(home)
		if b.status().NoUplink {
			t.Error("told of an uplink that has no address")
		}
		inside := strings.Replace(home, `internet: {port: wan, ipv4: dhcp, ipv6: none}`, "", 1)
		inside = strings.Replace(inside, `  - {name: browsing, from: office, to: internet, protocols: any, why: outbound}`, "", 1)
		inside = strings.Replace(inside, `  wan: {mac: "52:54:00:10:00:01"}`, "", 1)
		b.mustApply(inside)
		if !b.status().NoUplink {
			t.Error("not told")
		}
	})
}

func TestQuestionsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home)
		rules, err := b.r.Rules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(rules.Rules) != 2 || rules.Rules[1].Pos != (diag.Pos{File: "home.yaml", Line: 15, Col: 5}) {
			t.Errorf("got rules %+v", rules.Rules)
		}
		if diff := cmp.Diff(refusedInTests, rules.Refused); diff != "" {
			t.Errorf("counters differ (-want +got):\n%s", diff)
		}
		zones, err := b.r.Zones(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(zones) != 2 || zones[0].Link != "eth1" || zones[1].Devices != 1 {
			t.Errorf("got zones %+v", zones)
		}
		if _, err := b.r.Why(t.Context(), "tvv", "office", "ssh"); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("an unknown name: got %v", err)
		}
		if _, err := b.r.Contacts(t.Context(), "tvv"); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("contacts of an unknown name: got %v", err)
		}
		if c, err := b.r.Contacts(t.Context(), "office"); err != nil || c.Of != "office" || !slices.ContainsFunc(c.To, func(v api.Verdict) bool { return v.Allow && v.To == "internet" }) {
			t.Errorf("got %+v, %v", c, err)
		}
		p, err := b.r.Plan(t.Context(), api.Proposal{File: api.File{Name: "new.yaml", Data: []byte(strings.Replace(home, "from: office, to: internet", "from: [office, gadgets], to: internet", 1))}})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Reach) != 1 || p.Reach[0].String() != "gadgets → internet: any becomes possible" {
			t.Errorf("plan says %v", p.Reach)
		}
		if b.confirmed() != home {
			t.Error("planning changed the confirmed file")
		}
	})
}
