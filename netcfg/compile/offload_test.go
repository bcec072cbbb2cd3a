package compile_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reach"
)

// TestOffloadBypassesNothing looks at connections that random rulesets offload. A
// flowtable does not look at MACs: so whatever MAC a packet of such a connection comes
// with, and whichever way it goes, the rules would have let it through, too.
func TestOffloadBypassesNothing(t *testing.T) {
	const configs, packets = 300, 300
	offloaded, kept := 0, 0
	for seed := range uint64(configs) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 3))}
		cfg := g.config()
		f := g.facts(cfg)
		f.Kernel.Flowtable = true
		r := compile.Compile(cfg, f)
		w := reach.New(r.State)
		macs := []model.MAC{{2, 0, 0, 0, 9, 9}}
		for _, d := range cfg.Devices {
			macs = append(macs, d.MAC)
		}
		for range packets {
			there := g.established(cfg, r)
			result := w.Walk(there)
			back := there
			back.In, back.Src, back.Dst, back.SrcPort, back.Port = result.Out, there.Dst, there.Src, there.Port, there.SrcPort
			passes := func(mac model.MAC) bool { back.MAC = mac; return w.Walk(back).Accepted }
			switch {
			case !result.Accepted || result.Out == "" || !slices.ContainsFunc(macs, passes):
				continue // it never was established
			case !result.Offloaded:
				kept++
				continue
			}
			offloaded++
			for _, p := range []reach.Packet{there, back} {
				for _, p.MAC = range macs {
					if got := w.Walk(p); !got.Accepted {
						t.Fatalf("seed %d: %+v is offloaded, and with it %+v, which the rules refuse: %+v\n%s", seed, there, p, got, r.State.Ruleset.Table)
					}
				}
			}
		}
	}
	t.Logf("%d packets are offloaded, %d are not", offloaded, kept)
	if offloaded < 1000 || kept < 1000 {
		t.Error("the random connections are too much alike: the test proves too little")
	}
}

// established returns a packet that says it belongs to a connection.
func (g *generator) established(cfg *model.Config, r *compile.Result) reach.Packet {
	f := policy.Flow{From: g.party(cfg), Proto: pick(g, []uint8{1, 6, 6, 17, 17, 47}), SrcPort: 40000, Port: pick(g, ports)}
	for f.From == model.Box {
		f.From = g.party(cfg)
	}
	f.Src, f.MAC = g.address(cfg, r.Policy, f.From)
	f.Dst, _ = g.address(cfg, r.Policy, g.party(cfg))
	p := packet(r.State, f)
	p.Established, p.Flags = true, nft.FlagACK
	return p
}

// TestOffloadIsLeftOut names the boxes that do without.
func TestOffloadIsLeftOut(t *testing.T) {
	cfg := large(0)
	able := compile.Offline(cfg, now)
	able.Kernel.Flowtable = true
	unable, bare := compile.Offline(cfg, now), able
	bare.Links = nil
	for _, tt := range []struct {
		name string
		got  *compile.Result
		want int
	}{
		{"all there", compile.Compile(cfg, able), 1},
		{"kernel without", compile.Compile(cfg, unable), 0},
		{"no cards", compile.Compile(cfg, bare), 0},
		{"closed box", compile.Options{Closed: true}.Compile(cfg, able), 0},
	} {
		if n := len(tt.got.State.Ruleset.Table.Flowtables); n != tt.want {
			t.Errorf("%s: %d flowtables, want %d", tt.name, n, tt.want)
		}
	}
}
