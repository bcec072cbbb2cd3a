package nft_test

import (
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
)

// needNFT skips a test where the nft program is missing.
func needNFT(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the nft program: apt-get install nftables")
	}
}

// TestPrintedAsListed loads what is printed with nft and expects nft to list the
// very same.
func TestPrintedAsListed(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	want := nfttest.Everything().String()
	nstest.ExecInput(t, ns, want, "nft", "-f", "-")
	got := nstest.Exec(t, ns, "nft", "list", "table", "inet", "bulkhead")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nft lists another table than was printed (-printed +listed):\n%s", diff)
	}
}
