package api_test

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/state"
)

// side is a box with a table of n counters.
func side(n int) impact.Side {
	t := &nft.Table{Name: "bulkhead"}
	for i := range n {
		t.Counters = append(t.Counters, fmt.Sprintf("c%d", i))
	}
	return impact.Side{State: state.State{Ruleset: state.Ruleset{Table: t, Digest: t.Digest()}}}
}

func TestRulesetDiffIsBounded(t *testing.T) {
	few, many := side(2), side(1000)
	if d := api.RulesetDiffOf(impact.Change{Old: few, New: few}); d.Text != "" || d.More != 0 {
		t.Errorf("nothing differs, and it says %+v", d)
	}
	d := api.RulesetDiffOf(impact.Change{Old: few, New: side(3)})
	if !strings.Contains(d.Text, "\n+\tcounter c2 {\n") || d.More != 0 {
		t.Errorf("got %+v", d)
	}
	for name, old := range map[string]impact.Side{"few": few, "a box that was never set up": {}} {
		d := api.RulesetDiffOf(impact.Change{Old: old, New: many})
		if n := strings.Count(d.Text, "\n"); n != api.MaxRulesetLines || d.More < 3000 {
			t.Errorf("from %s: %d lines and %d more", name, n, d.More)
		}
	}
}
