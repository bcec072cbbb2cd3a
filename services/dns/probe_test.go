package dns

import (
	"context"
	"testing"

	"github.com/miekg/dns"
)

func TestProbeAnswersAsTheZoneDoes(t *testing.T) {
	up := newFake(t, good(t))
	b := newTestbed(t, up.addr)
	ask := func(zone, name string) string {
		t.Helper()
		reply := b.probe(t.Context(), zone, packed(t, query(name, dns.TypeA)))
		if reply == nil {
			return ""
		}
		return show(t, reply)
	}
	for _, tt := range []struct{ zone, name, want string }{
		{"iot", "gw.home.arpa", "NOERROR aa; gw.home.arpa. 60 IN A 127.44.0.1"},
		{"iot", "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1"}, // asks upstream
		{"iot", "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1"}, // knows it
		{"guest", "gw.home.arpa", ""},
	} {
		if got := ask(tt.zone, tt.name); got != tt.want {
			t.Errorf("%s in %s: got %q, want %q", tt.name, tt.zone, got, tt.want)
		}
	}
	if got := b.probe(t.Context(), "iot", []byte("nonsense")); got != nil {
		t.Errorf("nonsense got %q", got)
	}

	// A link that is not there: the zone is configured, but nobody can ask in it.
	b.cfg.Zones[0].Link = "bh-none"
	if err := b.configure(b.cfg); err != nil {
		t.Fatal(err)
	}
	if got := ask("iot", "gw.home.arpa"); got != "" {
		t.Errorf("a zone in which nobody listens answers %q", got)
	}
}

func TestProbeDoesNotWaitForEver(t *testing.T) {
	up := newFake(t, silent)
	b := newTestbed(t, up.addr)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := b.probe(ctx, "iot", packed(t, query("a.example", dns.TypeA))); got != nil {
		t.Errorf("got %q", show(t, got))
	}
}
