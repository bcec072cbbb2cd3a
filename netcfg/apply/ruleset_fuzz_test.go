//go:build linux

package apply

import (
	"bytes"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// FuzzKernelReplies feeds bytes to everything that decodes what the kernel says.
func FuzzKernelReplies(f *testing.F) {
	var a attrs
	a.string(unix.NFTA_CHAIN_TABLE, "bulkhead")
	a.string(unix.NFTA_CHAIN_NAME, "forward")
	a.nest(unix.NFTA_CHAIN_HOOK, func() { a.uint32(unix.NFTA_HOOK_HOOKNUM, 2) })
	f.Add([]byte(a))
	f.Add([]byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff})
	f.Add([]byte{3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		for range errorMessages(data) {
		}
		payload(netlink.Message{Data: data})
		o := decodeObject(data)
		_, _ = o.string(unix.NFTA_CHAIN_NAME), o.uint32(nftaChainFlags)
		var c contents
		c.addChain(o)
		c.addSet(o)
		for kind := range volatile {
			once := canonical(kind, data)
			if twice := canonical(kind, once); !bytes.Equal(once, twice) {
				t.Errorf("canonical form of kind %d is not stable: %x, then %x", kind, once, twice)
			}
		}
		canonicalElement(data)
	})
}
