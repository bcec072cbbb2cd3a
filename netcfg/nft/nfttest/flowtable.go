package nfttest

import (
	"math/rand/v2"
	"slices"

	"bulkhead/netcfg/nft"
)

// Offloading adds to a table a flowtable over the devices, which must be sorted, and at
// random places rules that put connections into it. It is apart from the other
// generators because not every kernel has flowtables.
func Offloading(r *rand.Rand, t *nft.Table, devices ...string) {
	const flowtable = "fastpath"
	t.Flowtables = append(t.Flowtables, nft.Flowtable{Name: flowtable, Devices: devices})
	if !slices.ContainsFunc(t.Chains, atForward) {
		t.Chains = append(t.Chains, nft.Chain{Name: "passing", Hook: &nft.Hook{Type: "filter", Hook: "forward"}})
	}
	established := nft.Match{Field: nft.CTState, Op: nft.AnyBit, Value: nft.U32(nft.StateEstablished)}
	for i := range t.Chains {
		if c := &t.Chains[i]; atForward(*c) {
			for _, added := range []nft.Rule{
				rule("", nft.Offload{Flowtable: flowtable}),
				rule("the short way", established, nft.Offload{Flowtable: flowtable}),
				rule("", nft.Offload{Flowtable: flowtable}, accept),
			} {
				c.Rules = slices.Insert(c.Rules, r.IntN(len(c.Rules)+1), added)
			}
		}
	}
}

func atForward(c nft.Chain) bool { return c.Hook != nil && c.Hook.Hook == "forward" }
