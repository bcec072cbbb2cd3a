//go:build linux

package apply

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
)

func openRulesets(t testing.TB, ns int) *Rulesets {
	t.Helper()
	r, err := OpenRulesets(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func needNFT(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft program: apt-get install nftables")
	}
}

var counterValues = regexp.MustCompile(`packets \d+ bytes \d+`)

// listed is the table as nft lists it, with counters at zero.
func listed(t testing.TB, ns int) string {
	t.Helper()
	out := nstest.Exec(t, ns, "nft", "list", "table", "inet", "bulkhead")
	return counterValues.ReplaceAllString(out, "packets 0 bytes 0")
}

func mustLoad(t testing.TB, r *Rulesets, table *nft.Table) LoadedRuleset {
	t.Helper()
	loaded, err := r.Load(table)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// sameAsNFT loads a table with our encoder into one namespace and its text with nft
// into another. nft has to list both as printed. Unless the text lacks matches that
// others imply, the kernel has to hold the same objects in both.
func sameAsNFT(t testing.TB, table *nft.Table, implied bool) {
	t.Helper()
	ours, theirs := nstest.New(t), nstest.New(t)
	text := table.String()
	nstest.ExecInput(t, theirs, text, "nft", "-f", "-")
	if diff := cmp.Diff(text, listed(t, theirs)); diff != "" {
		t.Errorf("nft lists another table than was printed (-printed +listed):\n%s", diff)
	}
	mustLoad(t, openRulesets(t, ours), table)
	if diff := cmp.Diff(text, listed(t, ours)); diff != "" {
		t.Errorf("nft lists another table than was loaded (-printed +listed):\n%s", diff)
	}
	if implied {
		return
	}
	if diff := cmp.Diff(objects(t, theirs), objects(t, ours)); diff != "" {
		t.Errorf("the kernel holds other objects than nft would make (-nft +ours):\n%s", diff)
	}
}

var (
	ruleHandles = regexp.MustCompile(`^(inet bulkhead \S+) \d+( \d+)?$`)
	// In front of one-byte fields nft turns round half of two bytes, which does nothing.
	idleTurn = regexp.MustCompile(`hton\(reg \d+, 2, 1\)`)
)

// objects is the table as it stands in the kernel, down to registers and bytes, without
// handles and with the elements of each set in order.
func objects(t testing.TB, ns int) string {
	t.Helper()
	out := nstest.Exec(t, ns, "nft", "--debug=netlink", "list", "table", "inet", "bulkhead")
	out = strings.ReplaceAll(out, "element ", "\nelement ")
	var lines, elements []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "element ") {
			elements = append(elements, line)
			continue
		}
		if line == "" {
			continue
		}
		slices.Sort(elements)
		lines, elements = append(lines, elements...), nil
		if !idleTurn.MatchString(line) {
			lines = append(lines, ruleHandles.ReplaceAllString(line, "$1"))
		}
	}
	return counterValues.ReplaceAllString(strings.Join(lines, "\n"), "packets 0 bytes 0")
}

func TestLoadsWhatNFTWouldLoad(t *testing.T) {
	needNFT(t)
	table := nfttest.Everything()
	sameAsNFT(t, table, true)
	table.Chains = slices.DeleteFunc(table.Chains, func(c nft.Chain) bool { return c.Name == "implied" })
	sameAsNFT(t, table, false)
}

// TestLoadsRandomTablesAsNFTWould does the same with random tables. The seed is in
// the name of the subtest.
func TestLoadsRandomTablesAsNFTWould(t *testing.T) {
	needNFT(t)
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			implied := seed%2 == 0
			table := nfttest.Random(rand.New(rand.NewPCG(seed, 0)), implied)
			if err := table.Validate(); err != nil {
				t.Fatal(err)
			}
			sameAsNFT(t, table, implied)
		})
	}
}
