package nft_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPrintsEverything shows a person, and a machine without nft, what is printed of
// each statement, comparison and shape of set.
func TestPrintsEverything(t *testing.T) { golden(t, "testdata/everything.nft", nfttest.Everything()) }

// TestPrintsFlowtables does it with what not every kernel has. That nft agrees is
// checked in a virtual machine: see images/kernel.
func TestPrintsFlowtables(t *testing.T) { golden(t, "testdata/flowtable.nft", offloading()) }

func golden(t *testing.T, file string, table *nft.Table) {
	t.Helper()
	got := table.String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

// needNFT skips a test where the nft program is missing.
func needNFT(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft program: apt-get install nftables")
	}
}

// printedAsListed loads what is printed with nft and expects nft to list the very
// same.
func printedAsListed(t *testing.T, table *nft.Table) {
	t.Helper()
	ns := nstest.New(t)
	want := table.String()
	nstest.ExecInput(t, ns, want, "nft", "-f", "-")
	got := nstest.Exec(t, ns, "nft", "list", "table", "inet", "bulkhead")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nft lists another table than was printed (-printed +listed):\n%s", diff)
	}
}

func TestPrintedAsListed(t *testing.T) {
	needNFT(t)
	printedAsListed(t, nfttest.Everything())
}

// FuzzPrintedAsListed does it with random tables.
func FuzzPrintedAsListed(f *testing.F) {
	needNFT(f)
	for seed := range uint64(10) {
		f.Add(seed, seed, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed1, seed2 uint64, implied bool) {
		table := nfttest.Random(rand.New(rand.NewPCG(seed1, seed2)), implied)
		if err := table.Validate(); err != nil {
			t.Fatalf("the generator is wrong: %v", err)
		}
		printedAsListed(t, table)
	})
}

func TestDigestFollowsTheText(t *testing.T) {
	a, b := nfttest.Everything(), nfttest.Everything()
	if a.Digest() != b.Digest() {
		t.Error("equal tables have different digests")
	}
	b.Chains[0].Rules[0].Comment = "another"
	if a.Digest() == b.Digest() {
		t.Error("different tables have the same digest")
	}
}
