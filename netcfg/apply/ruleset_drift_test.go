//go:build linux

package apply

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
)

// TestForeignChangesInWords lets somebody else write to our table and expects Observe
// to say what that was.
func TestForeignChangesInWords(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	r := openRulesets(t, ns)
	for _, test := range []struct {
		change string
		want   []string
	}{
		{"add rule inet bulkhead refuse accept", []string{"chain refuse had 1 rule more"}},
		{"flush chain inet bulkhead raw", []string{"chain raw had 15 rules less"}},
		{"add chain inet bulkhead mine; add rule inet bulkhead mine accept", []string{"chain mine was added"}},
		{"add chain inet bulkhead forward { policy accept; }", []string{"chain forward had the policy accept"}},
		{"flush chain inet bulkhead input; delete chain inet bulkhead input", []string{"chain input was gone"}},
		{"add set inet bulkhead mine { type ipv4_addr; elements = { 192.0.2.1 } }", []string{"set mine was added"}},
		{"add element inet bulkhead addrs { 192.0.2.77 }", []string{"set addrs had 1 element more"}},
		{
			"add element inet bulkhead addrs { 192.0.2.77, 192.0.2.78 }; delete element inet bulkhead addrs { 10.0.0.1 }",
			[]string{"set addrs had 2 elements more and 1 element less"},
		},
		{"add counter inet bulkhead mine", []string{"counter mine was added"}},
		{"add rule inet bulkhead refuse ip saddr { 192.0.2.1, 192.0.2.2 } accept", []string{"chain refuse had 1 rule more"}},
		{"add table inet bulkhead { flags dormant; }", []string{"the table was switched off"}},
	} {
		loaded := mustLoad(t, r, nfttest.Everything())
		nstest.ExecInput(t, ns, strings.ReplaceAll(test.change, "; ", "\n"), "nft", "-f", "-")
		got, err := r.Observe(loaded)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got.Changes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.change, diff)
		}
	}

	// A process that never saw the table as it was cannot know.
	loaded := mustLoad(t, r, nfttest.Everything())
	nstest.Exec(t, ns, "nft", "add", "rule", "inet", "bulkhead", "refuse", "accept")
	got, err := openRulesets(t, ns).Observe(loaded)
	if err != nil || !got.Foreign || got.Changes != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
