//go:build linux

package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"bulkhead/images/lab"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/state"
)

// large is how many rules the large configuration has.
const large = 5000

// scale measures how long a large configuration takes from file to kernel.
func scale(_ context.Context, w *lab.World, o Options) error {
	g, err := newGateway(w, "scale")
	if err != nil {
		return err
	}
	defer g.close()
	file := Config(large)
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
		_ = timed(&planned, func() error {
			p = plan.Make(observed, result.State)
			policy.Diff(small.Policy, result.Policy)
			return nil
		})
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
		{"plan, with what becomes possible", ms(p), ""},
		{"checked, compiled and planned", ms(c), target(c < time.Second, "less than 1 s")},
		{fmt.Sprintf("loaded into an empty kernel, %d steps", steps), ms(l), target(l < 2*time.Second, "less than 2 s")},
		{"loaded again with one rule more", ms(median(again)), ""},
	})
	return nil
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
