//go:build linux

package apply

import (
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
)

// Neighbours returns the MACs that machines answered with when the box last asked for
// their IPv4 addresses. Those that it did not speak with lately may be missing.
func (k *Kernel) Neighbours() (map[netip.Addr]model.MAC, error) {
	request, err := (&rtnetlink.NeighMessage{Family: unix.AF_INET}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	msgs, err := k.dump(unix.RTM_GETNEIGH, request)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", plain(err))
	}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	list := make(map[netip.Addr]model.MAC)
	for _, m := range msgs {
		var n rtnetlink.NeighMessage
		if err := n.UnmarshalBinary(m.Data); err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		if n.Attributes == nil || n.State&known == 0 || len(n.Attributes.LLAddress) != len(model.MAC{}) {
			continue
		}
		if a, ok := netip.AddrFromSlice(n.Attributes.Address); ok && a.Unmap().Is4() {
			list[a.Unmap()] = model.MAC(n.Attributes.LLAddress)
		}
	}
	return list, nil
}
