//go:build linux

package lab_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/policy"
	"bulkhead/services/flow/record"
)

// TestFlowsAreExactWhileRulesChange has netcfgd load other rules, time and again, while
// connections are open and others end. Each is recorded once, with every packet of it and the name of
// its rule: those that no change is about, those that are cut since their rule is gone, and
// those that are cut since the machine is isolated. What it tries then is, too.
func TestFlowsAreExactWhileRulesChange(t *testing.T) {
	rounds := number("BULKHEAD_ROUNDS", 3)
	l := start(t, example)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	original, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	quickly(t, l, 8*time.Second) // longer than a change takes
	g := startTraffic(t, l)
	anew(t, ctx, l)
	since := time.Now()
	allowed, refused := kinds(l)
	tv, cloud := l.Client("tv"), l.Client("nextcloud")
	ofTV := func(k *kind) bool { return k.from == tv.Host }
	others := slices.DeleteFunc(append(slices.Clone(allowed), refused...), ofTV)
	films := open(allowed[slices.IndexFunc(allowed, ofTV)], probe.UDP, 7359, "Dd", record.Unknown)
	stream := open(films, probe.TCP, 8096, "SsADdAD", record.Expired)

	want, n, made := newLedger(), 0, 0
	begin := func(kinds []*kind, packets int) (talks []*talk) {
		t.Helper()
		for range 10 {
			for _, k := range kinds {
				talks = append(talks, k.talk(n))
			}
			n++
		}
		if err := g.send(ctx, talks, 0, packets); err != nil {
			t.Fatal(err)
		}
		made += len(talks)
		return talks
	}
	// across does something while some connections are open and others end, and says how
	// long it took. No packet is on its way meanwhile: one that meets an old rule when the
	// elements of its map have gone already is dropped, and recorded as from nowhere.
	across := func(f func() error) time.Duration {
		t.Helper()
		for range 20 {
			want.made(begin(others, 18))
		}
		talks := begin(others, 3)
		begun := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		if err := g.send(ctx, talks, 3, 18); err != nil {
			t.Fatal(err)
		}
		want.made(talks)
		return took
	}
	apply := func(data []byte) func() error {
		return func() error { return l.Apply(ctx, api.File{Name: example, Data: data}, "a test") }
	}
	t.Cleanup(func() {
		if err := apply(original)(); err != nil {
			t.Error(err)
		}
	})
	for range rounds {
		cut := begin([]*kind{films, stream}, 18)
		across(apply(without(t, "tv-films")))
		want.made(cut)
		across(apply(original))
	}

	cut := begin([]*kind{films, stream}, 18)
	took := across(func() error {
		_, err := l.API.Isolate(ctx, api.Isolate{Machine: "tv", Author: "kim"})
		return err
	})
	t.Cleanup(func() { _, _ = l.API.Release(ctx, api.Release{Machine: "tv"}) }) // which it is, as a rule
	promptly(t, "the tv was isolated", took, time.Second)
	want.made(cut)
	isolated := *films
	isolated.to, isolated.refuse, isolated.script = tv.Host, true, "D"
	isolated.want = record.Record{Src: deviceSide(tv.Device), Dst: deviceSide(cloud.Device), Verdict: record.Refused, Reason: string(policy.Isolated)}
	want.made(begin([]*kind{&isolated}, 18))
	across(func() error {
		_, err := l.API.Release(ctx, api.Release{Machine: "tv"})
		return err
	})
	want.made(begin([]*kind{films}, 18))

	forgotten(t, ctx, l)
	got := newLedger()
	for _, r := range flowsEnd(t, ctx, l, since) {
		got.saw(r, want, append(allowed, stream))
	}
	got.compare(t, want)
	t.Logf("%d connections and attempts over %d changes", made, 2*rounds+2)
}

// open returns a kind like k with another service, which nobody ends.
func open(k *kind, proto uint8, port uint16, script string, end record.End) *kind {
	o := *k
	o.proto, o.port, o.script, o.want.Ended = proto, port, script, end
	return &o
}
