//go:build linux

package apply

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// inventory is what is in a table, short enough to be kept: with it, what somebody
// else has changed can be told in words.
type inventory struct {
	parts    map[part][]uint64 // hashes of its contents; of rules in their order
	policies map[string]uint32 // of base chains
	dormant  bool              // the table is switched off
}

// part is one thing in a table: a chain or the rules in it, a set or its elements.
type part struct {
	kind uint16 // NFT_MSG_GET…
	name string
}

var inventorySeed = maphash.MakeSeed()

// nameAttribute is where a thing of a kind has its name.
var nameAttribute = map[uint16]uint16{
	unix.NFT_MSG_GETCHAIN:     unix.NFTA_CHAIN_NAME,
	unix.NFT_MSG_GETSET:       unix.NFTA_SET_NAME,
	unix.NFT_MSG_GETOBJ:       unix.NFTA_OBJ_NAME,
	unix.NFT_MSG_GETFLOWTABLE: nftaFlowtableName,
}

// inventoryOf sums sorted records up. Sets without a name are left out: they come and
// go with their rule.
func inventoryOf(records []record) *inventory {
	v := &inventory{parts: make(map[part][]uint64), policies: make(map[string]uint32)}
	anonymous := make(map[string]bool)
	for _, r := range records {
		if r.kind == unix.NFT_MSG_GETSET {
			o := decodeObject(r.data)
			anonymous[o.string(unix.NFTA_SET_NAME)] = o.uint32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS != 0
		}
	}
	for _, r := range records {
		p := part{r.kind, r.name}
		if attr := nameAttribute[r.kind]; attr != 0 {
			o := decodeObject(r.data)
			p.name = o.string(attr)
			if r.kind == unix.NFT_MSG_GETCHAIN && o[unix.NFTA_CHAIN_POLICY] != nil {
				v.policies[p.name] = o.uint32(unix.NFTA_CHAIN_POLICY)
			}
		}
		if r.kind == unix.NFT_MSG_GETTABLE {
			const dormant = 0x1 // NFT_TABLE_F_DORMANT
			v.dormant = decodeObject(r.data).uint32(unix.NFTA_TABLE_FLAGS)&dormant != 0
		}
		if (r.kind == unix.NFT_MSG_GETSET || r.kind == unix.NFT_MSG_GETSETELEM) && anonymous[p.name] {
			continue
		}
		v.parts[p] = append(v.parts[p], maphash.Bytes(inventorySeed, r.data))
	}
	return v
}

// maxChanges bounds how many changes of one table are told one by one.
const maxChanges = 10

// changes says in words how a table differs from the one that was left: "chain forward
// had 1 rule more". Devices that flowtables have lost are told by lost alone, as they
// do when a network card is pulled.
func (v *inventory) changes(now *inventory) (words []string, lost bool) {
	keys := maps.Clone(v.parts)
	maps.Copy(keys, now.parts)
	order := slices.SortedFunc(maps.Keys(keys), func(a, b part) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return strings.Compare(a.name, b.name)
	})
	for _, p := range order {
		what := v.change(now, p)
		switch {
		case what == "":
		case p.kind == unix.NFT_MSG_GETFLOWTABLE && len(v.parts[p]) == len(now.parts[p]):
			lost = true
		default:
			words = append(words, what)
		}
	}
	if more := len(words) - maxChanges; more > 0 {
		words = append(words[:maxChanges], fmt.Sprintf("and %d changes more", more))
	}
	return words, lost
}

func (v *inventory) change(now *inventory, p part) string {
	was, is := v.parts[p], now.parts[p]
	if slices.Equal(was, is) {
		return ""
	}
	switch p.kind {
	case unix.NFT_MSG_GETTABLE:
		if now.dormant {
			return "the table was switched off"
		}
		return "the table had other flags"
	case unix.NFT_MSG_GETRULE:
		if now.parts[part{unix.NFT_MSG_GETCHAIN, p.name}] == nil || v.parts[part{unix.NFT_MSG_GETCHAIN, p.name}] == nil {
			return "" // the chain as a whole is told of
		}
		return fmt.Sprintf("chain %s had %s", p.name, compared(was, is, "rule", "its rules in another order"))
	case unix.NFT_MSG_GETSETELEM:
		if now.parts[part{unix.NFT_MSG_GETSET, p.name}] == nil || v.parts[part{unix.NFT_MSG_GETSET, p.name}] == nil {
			return ""
		}
		return fmt.Sprintf("set %s had %s", p.name, compared(was, is, "element", "other elements"))
	}
	noun := map[uint16]string{
		unix.NFT_MSG_GETCHAIN: "chain", unix.NFT_MSG_GETSET: "set", unix.NFT_MSG_GETOBJ: "counter", unix.NFT_MSG_GETFLOWTABLE: "flowtable",
	}[p.kind]
	switch policy, ok := now.policies[p.name]; {
	case is == nil:
		return fmt.Sprintf("%s %s was gone", noun, p.name)
	case was == nil:
		return fmt.Sprintf("%s %s was added", noun, p.name)
	case p.kind == unix.NFT_MSG_GETCHAIN && ok && policy != v.policies[p.name]:
		return fmt.Sprintf("chain %s had the policy %s", p.name, policyName(policy))
	}
	return fmt.Sprintf("%s %s was another of that name", noun, p.name)
}

func policyName(policy uint32) string {
	if policy == nfAccept {
		return "accept"
	}
	return "drop"
}

// compared says how many things are more or less than there were.
func compared(was, is []uint64, noun, otherwise string) string {
	count := make(map[uint64]int)
	for _, h := range is {
		count[h]++
	}
	for _, h := range was {
		count[h]--
	}
	more, less := 0, 0
	for _, n := range count {
		more, less = more+max(n, 0), less+max(-n, 0)
	}
	switch {
	case more > 0 && less > 0:
		return fmt.Sprintf("%s more and %s less", things(more, noun), things(less, noun))
	case more > 0:
		return things(more, noun) + " more"
	case less > 0:
		return things(less, noun) + " less"
	}
	return otherwise
}

func things(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
