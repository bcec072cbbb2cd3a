//go:build linux

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"bulkhead/images/lab"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// large is how many rules the large configuration has.
const large = 5000

// connections is how many are open on a busy box.
const connections = 10000

// scale measures how long a large configuration takes from file to kernel.
func scale(_ context.Context, w *lab.World, o Options) error {
	g, err := newGateway(w, "scale")
	if err != nil {
		return err
	}
	defer g.close()
	file := Config(large)
	leases, open := everyLease(), everyConn()
	var check, comp, planned, load, again []time.Duration
	timed := func(list *[]time.Duration, f func() error) error {
		start := time.Now()
		err := f()
		*list = append(*list, time.Since(start))
		return err
	}
	steps := 0
	rounds := min(o.Rounds, 5) // each takes two seconds
	for range rounds {
		if err := g.clear(); err != nil {
			return err
		}
		small, err := compileFile(Config(5))
		if err != nil {
			return err
		}
		var cfg *model.Config
		var result *compile.Result
		err = timed(&check, func() error {
			if cfg, err = parse(file); err == nil {
				if failed := policy.New(cfg, policy.Env{Now: time.Now()}).Failures(); len(failed) > 0 {
					err = fmt.Errorf("%d tests of the configuration fail", len(failed))
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		_ = timed(&comp, func() error { result = compile.Compile(cfg, everything()); return nil })
		observed, err := g.kernel.Observe(result.State)
		if err != nil {
			return err
		}
		var p *plan.Plan
		err = timed(&planned, func() error {
			p = plan.Make(observed, result.State)
			c := impact.Change{
				Old: reconcile.Side(small), New: reconcile.Side(result), Now: time.Now(), Live: true,
				Leases: leases, Author: netip.MustParseAddr(address(zones - 1)),
			}
			var err error
			if c.Ends, err = reconcile.Ends(result, open); err != nil {
				return err
			}
			words := api.PlanOf(small.Policy, c, p, nil)
			if words.Lockout != "" || words.Cut.Count == 0 || words.Cut.Count == connections {
				return fmt.Errorf("the plan says %q, and that %d of %d connections end", words.Lockout, words.Cut.Count, connections)
			}
			return nil
		})
		if err != nil {
			return err
		}
		steps = len(p.Steps)
		if err := timed(&load, func() error { return g.do(p) }); err != nil {
			return err
		}
		// One more rule: the change that people make.
		more, err := compileFile(Config(large + 1))
		if err != nil {
			return err
		}
		if err := timed(&again, func() error { return g.install(more.State) }); err != nil {
			return err
		}
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
	c, p, l := median(check)+median(comp)+median(planned), median(planned), median(load)
	table(o.W, fmt.Sprintf("A file with %d devices and %d rules (%d kB), medians of %d rounds", devices, large, len(file)>>10, rounds), [][]string{
		{"check: parse and run its tests", ms(median(check)), ""},
		{"compile", ms(median(comp)), ""},
		{fmt.Sprintf("plan: steps, words, %d leases, %d connections", devices, connections), ms(p), ""},
		{"checked, compiled and planned", ms(c), target(c < time.Second, "less than 1 s")},
		{fmt.Sprintf("loaded into an empty kernel, %d steps", steps), ms(l), target(l < 2*time.Second, "less than 2 s")},
		{"loaded again with one rule more", ms(median(again)), ""},
	})
	return nil
}

// everyLease is one lease for every device.
func everyLease() []svcconf.Lease {
	list := make([]svcconf.Lease, devices)
	for d := range list {
		list[d] = svcconf.Lease{
			Zone: fmt.Sprintf("zone-%d", d%zones), Address: netip.MustParseAddr(address(d)),
			Granted: time.Now(), Expires: time.Now().Add(12 * time.Hour),
		}
	}
	return list
}

// everyConn lists connections as conntrack does: from device to device, half of which
// some rule allows.
func everyConn() func(func(apply.Conn)) error {
	conns := make([]apply.Conn, connections)
	for i := range conns {
		r := i % large
		n := r / 2
		from, to := n%20*zones, n/20%20*zones+1 // the rules of [Config] with even numbers
		t := apply.Tuple{
			Src: netip.MustParseAddr(address(from)), Dst: netip.MustParseAddr(address(to)), Proto: model.ProtoTCP,
			SrcPort: uint16(20000 + i), DstPort: uint16(10000 + n + r%2*large),
		}
		conns[i] = apply.Conn{Orig: t, Reply: apply.Tuple{Src: t.Dst, Dst: t.Src, Proto: t.Proto, SrcPort: t.DstPort, DstPort: t.SrcPort}}
	}
	return func(f func(apply.Conn)) error {
		for _, c := range conns {
			f(c)
		}
		return nil
	}
}

func parse(file []byte) (*model.Config, error) {
	cfg, problems := conf.Parse("bench.yaml", file, time.Now())
	if cfg == nil {
		return nil, problems.Err()
	}
	return cfg, nil
}

func compileFile(file []byte) (*compile.Result, error) {
	cfg, err := parse(file)
	if err != nil {
		return nil, err
	}
	return compile.Compile(cfg, everything()), nil
}

// everything is the facts of a box that has all ports.
func everything() facts.Facts {
	f := facts.Facts{Now: time.Now()}
	for z := range zones {
		f.Links = append(f.Links, facts.Link{Name: link(z), MAC: portMAC(z)})
	}
	return f
}

// gateway is a host with a port for each zone, whose kernel is written as netcfgd
// does it.
type gateway struct {
	*lab.Host
	world  *lab.World
	peers  *lab.Host // the other ends of the ports
	kernel *apply.Kernel
}

func newGateway(w *lab.World, name string) (*gateway, error) {
	g := &gateway{world: w}
	var err error
	if g.Host, err = w.NewHost(name); err != nil {
		return nil, err
	}
	if g.peers, err = w.NewHost(name + "-peers"); err != nil {
		return nil, err
	}
	batch := "link set dev lo up\n"
	for z := range zones {
		batch += fmt.Sprintf("link add name %s address %s type veth peer name %s netns %s\n", link(z), portMAC(z), link(z), g.peers.Name)
	}
	if err := g.IP(batch); err != nil {
		return nil, err
	}
	g.kernel, err = apply.Open(g.NetNS(), filepath.Join(w.Dir, name+".ruleset.json"))
	return g, err
}

func (g *gateway) close() {
	g.kernel.Close()
	g.world.Remove(g.Host)
	g.world.Remove(g.peers)
}

// clear takes Bulkhead's table away behind its back.
func (g *gateway) clear() error {
	_, err := g.Output("nft", "flush ruleset")
	return err
}

// install brings the kernel to a state.
func (g *gateway) install(want state.State) error {
	observed, err := g.kernel.Observe(want)
	if err != nil {
		return err
	}
	return g.do(plan.Make(observed, want))
}

func (g *gateway) do(p *plan.Plan) error {
	for _, s := range p.Steps {
		if err := g.kernel.Do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
