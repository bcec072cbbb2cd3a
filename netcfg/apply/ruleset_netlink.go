//go:build linux

package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
)

// errGenerationChanged says that somebody else changed a ruleset after it was read.
var errGenerationChanged = errors.New("rulesets have changed meanwhile")

// replyBuffer is the size in bytes of the buffer for the kernel's answers to a
// transaction. The kernel answers once for each message that it refuses.
const replyBuffer = 4 << 20

// batchFrame is room in bytes for what stands before and after the commands of a
// transaction.
const batchFrame = 256

// datagramSize is more than the kernel puts into one datagram of answers, in bytes.
const datagramSize = 64 << 10

// Numbers that package unix does not have.
const (
	nfnlBatchGenID  = 1   // enum nfnl_batch_attributes: include/uapi/linux/netfilter/nfnetlink.h
	nftChainBase    = 0x1 // enum nft_chain_flags; the only one of chains of ours
	nftChainBinding = 0x4 // the chain is part of a rule
	sizeofNfGenMsg  = 4   // struct nfgenmsg

	nfNetdevIngress     = 0 // enum nf_dev_hooks
	nftFlowtableCounter = 2 // enum nft_flowtable_flags: packets count for their connection
	sizeofErrno         = 4 // at the start of struct nlmsgerr
)

// nfnetlink speaks the kernel's language for tables of family inet.
type nfnetlink struct {
	netns int
	dumps *netlink.Conn
	sent  ports // of transactions
}

func dialNfnetlink(netns int) (*nfnetlink, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, err
	}
	return &nfnetlink{netns: netns, dumps: c}, nil
}

func (n *nfnetlink) close() error { return n.dumps.Close() }

func header(typ, flags uint16) netlink.Header {
	return netlink.Header{
		Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ),
		Flags: netlink.Request | netlink.HeaderFlags(flags),
	}
}

// nfgenmsg is the header of each nfnetlink message: family, version, resource.
func nfgenmsg(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// commit carries out all commands in one transaction, or none. With a generation
// other than 0 it returns errGenerationChanged, and does nothing, if the rulesets are not
// at that generation any more.
//
// The error for a command names the command and wraps the errno. It wraps
// [fs.ErrPermission] without CAP_NET_ADMIN.
func (n *nfnetlink) commit(batch []command, generation uint32) error {
	return n.transact(batch, generation, true)
}

// check has the kernel try all commands and take them back. It returns what commit
// would have.
func (n *nfnetlink) check(batch []command) error { return n.transact(batch, 0, false) }

// transact sends a transaction. One that does not end is taken back: nfnetlink_rcv_batch
// in net/netfilter/nfnetlink.c.
func (n *nfnetlink) transact(batch []command, generation uint32, end bool) error {
	msgs := make([]netlink.Message, 0, len(batch)+2)
	begin := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
		Data:   nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
	if generation != 0 {
		a := attrs(begin.Data)
		a.uint32(nfnlBatchGenID, generation)
		begin.Data = a
	}
	msgs = append(msgs, begin)
	bytes := 0
	for _, c := range batch {
		msgs = append(msgs, netlink.Message{
			Header: header(c.typ, c.flags),
			Data:   append(nfgenmsg(unix.NFPROTO_INET, 0), c.attrs...),
		})
		bytes += unix.SizeofNlMsghdr + sizeofNfGenMsg + len(c.attrs)
	}
	// One acknowledgement, of the last command, will do: a command that is refused
	// is reported anyway, and one that is not comes to force with all others.
	msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
	if end {
		msgs = append(msgs, netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
			Data:   nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		})
	}

	// A socket of its own: replies that nobody waits for go away with it.
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: n.netns})
	if err != nil {
		return err
	}
	defer conn.Close()
	n.sent.add(conn.PID())
	// The transaction is one write, and a socket refuses writes longer than its buffer
	// with EMSGSIZE. The kernel doubles the number, for its own needs.
	if err := conn.SetWriteBuffer(bytes + batchFrame); err != nil {
		return fmt.Errorf("set send buffer: %w", err)
	}
	if err := conn.SetReadBuffer(replyBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	sent, err := conn.SendMessages(msgs)
	if err != nil {
		return err
	}
	return replies(conn, batch, sent[0].Header.Sequence)
}

// replies reads the answers to a transaction and returns the first error. The kernel
// has put all of them into the socket's buffer before the write returned.
func replies(conn *netlink.Conn, batch []command, firstSequence uint32) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	acknowledged := false
	buf := make([]byte, datagramSize)
	for {
		var n int
		var rerr error
		if err := raw.Read(func(fd uintptr) bool {
			n, _, rerr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return true
		}); err != nil {
			return err
		}
		switch {
		case rerr == unix.EINTR || rerr == unix.ENOBUFS: // ENOBUFS: more errors than fit; the first ones are there
			continue
		case rerr == unix.EAGAIN && failed != nil:
			return failed
		case rerr == unix.EAGAIN && !acknowledged:
			return errors.New("the kernel did not acknowledge the transaction")
		case rerr == unix.EAGAIN:
			return nil
		case rerr != nil:
			return fmt.Errorf("receive: %w", rerr)
		}
		for sequence, errno := range errorMessages(buf[:n]) {
			switch {
			case errno == 0:
				acknowledged = true
			case failed != nil:
			case errno == unix.ERESTART:
				failed = errGenerationChanged
			default:
				failed = refused(batch, int(sequence-firstSequence)-1, errno)
			}
		}
	}
}

func refused(batch []command, index int, errno unix.Errno) error {
	if index < 0 || index >= len(batch) {
		return fmt.Errorf("transaction: %w", errno)
	}
	return fmt.Errorf("%s: %w", batch[index].what, errno)
}

// errorMessages yields sequence number and errno of each NLMSG_ERROR in a datagram.
func errorMessages(b []byte) iter.Seq2[uint32, unix.Errno] {
	return func(yield func(uint32, unix.Errno) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			length := int(binary.NativeEndian.Uint32(b))
			if length < unix.SizeofNlMsghdr || length > len(b) {
				return
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && length >= unix.SizeofNlMsghdr+sizeofErrno {
				errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
				if !yield(binary.NativeEndian.Uint32(b[8:]), errno) {
					return
				}
			}
			b = b[min(len(b), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
		}
	}
}

// generation returns the number that the kernel gave to the present state of all
// rulesets of the namespace.
func (n *nfnetlink) generation() (uint32, error) {
	msgs, err := n.dumps.Execute(netlink.Message{
		Header: header(unix.NFT_MSG_GETGEN, 0),
		Data:   nfgenmsg(unix.AF_UNSPEC, 0),
	})
	if err != nil {
		return 0, fmt.Errorf("read ruleset generation: %w", err)
	}
	for _, m := range msgs {
		for typ, data := range attributes(payload(m)) {
			if typ == unix.NFTA_GEN_ID && len(data) == 4 {
				return binary.BigEndian.Uint32(data), nil
			}
		}
	}
	return 0, errors.New("read ruleset generation: no answer")
}

// list asks for all objects of a kind in a table. Kernels filter some kinds by table
// and some not, so the caller looks again.
func (n *nfnetlink) list(typ uint16, table string, more func(*attrs)) ([]netlink.Message, error) {
	var a attrs
	a.string(unix.NFTA_TABLE_NAME, table) // attribute 1 is the table in all messages
	if more != nil {
		more(&a)
	}
	return n.dumps.Execute(netlink.Message{
		Header: header(typ, unix.NLM_F_DUMP),
		Data:   append(nfgenmsg(unix.NFPROTO_INET, 0), a...),
	})
}

// getTable says whether the table is there, and returns the kernel's message about it.
func (n *nfnetlink) getTable(table string) (msg netlink.Message, exists bool, err error) {
	var a attrs
	a.string(unix.NFTA_TABLE_NAME, table)
	msgs, err := n.dumps.Execute(netlink.Message{
		Header: header(unix.NFT_MSG_GETTABLE, 0),
		Data:   append(nfgenmsg(unix.NFPROTO_INET, 0), a...),
	})
	if errors.Is(err, fs.ErrNotExist) {
		return netlink.Message{}, false, nil
	}
	if err != nil || len(msgs) == 0 {
		return netlink.Message{}, false, fmt.Errorf("read table %s: %w", table, err)
	}
	return msgs[0], true, nil
}

// contents are the things in a table by name, as far as they must be known to remove
// them.
type contents struct {
	exists     bool
	chains     []oldChain
	sets       []oldSet
	flowtables []string
	objects    []oldObject
}

type oldChain struct {
	name, typ      string
	hook, priority uint32
	policy         uint32
	base           bool
	odd            bool // has something that chains of ours do not have
}

type oldSet struct {
	name     string
	keyType  uint32
	keyLen   uint32
	flags    uint32
	size     uint32
	timeout  uint64 // ms
	interval uint32 // ms
	userdata string
	odd      bool // has something that dynamic sets of ours do not have
}

type oldObject struct {
	name      string
	kind      uint32
	annotated bool // has a comment
}

// chain returns the chain of that name, or nil.
func (c contents) chain(name string) *oldChain {
	for i := range c.chains {
		if c.chains[i].name == name {
			return &c.chains[i]
		}
	}
	return nil
}

// is reports whether the chain is as a base chain of ours with that hook would be.
func (c oldChain) is(h *nft.Hook) bool {
	return c.base && !c.odd && c.typ == h.Type && c.hook == hookNumbers[h.Hook] &&
		int32(c.priority) == int32(h.Priority) && c.policy == policy(h)
}

// is reports whether the set is dynamic, as the one wanted is.
func (o oldSet) is(s *nft.Set) bool {
	d := s.Dynamic
	return d != nil && o.name == s.Name && !o.odd && o.flags == dynamicFlags && o.keyType == typeNumber(s.Key) && o.keyLen == size(s.Key) && o.userdata == string(setUserdata(s)) &&
		o.size == d.Size && o.timeout == uint64(d.Timeout.Milliseconds()) && o.interval == uint32(d.Sweep.Milliseconds())
}

func (n *nfnetlink) contents(table string) (contents, error) {
	var c contents
	var err error
	if _, c.exists, err = n.getTable(table); err != nil || !c.exists {
		return c, err
	}
	for _, kind := range []struct {
		typ uint16
		add func(object)
	}{
		{unix.NFT_MSG_GETCHAIN, c.addChain},
		{unix.NFT_MSG_GETSET, c.addSet},
		{unix.NFT_MSG_GETFLOWTABLE, func(o object) { c.flowtables = append(c.flowtables, o.string(nftaFlowtableName)) }},
		{unix.NFT_MSG_GETOBJ, func(o object) {
			c.objects = append(c.objects, oldObject{o.string(unix.NFTA_OBJ_NAME), o.uint32(unix.NFTA_OBJ_TYPE), o[nftaObjUserdata] != nil})
		}},
	} {
		msgs, err := n.list(kind.typ, table, nil)
		if err != nil {
			return contents{}, fmt.Errorf("read table %s: %w", table, err)
		}
		for _, m := range msgs {
			if o := decodeObject(payload(m)); o.string(unix.NFTA_TABLE_NAME) == table {
				kind.add(o)
			}
		}
	}
	return c, nil
}

func (c *contents) addChain(o object) {
	flags := o.uint32(nftaChainFlags)
	if flags&nftChainBinding != 0 {
		return // goes with its rule
	}
	chain := oldChain{
		name:   o.string(unix.NFTA_CHAIN_NAME),
		typ:    o.string(unix.NFTA_CHAIN_TYPE),
		policy: o.uint32(unix.NFTA_CHAIN_POLICY),
		odd:    o[nftaChainUserdata] != nil || o[unix.NFTA_CHAIN_COUNTERS] != nil || flags&^nftChainBase != 0,
	}
	for typ, data := range attributes(o[unix.NFTA_CHAIN_HOOK]) {
		chain.base = true
		switch {
		case typ == unix.NFTA_HOOK_HOOKNUM && len(data) == 4:
			chain.hook = binary.BigEndian.Uint32(data)
		case typ == unix.NFTA_HOOK_PRIORITY && len(data) == 4:
			chain.priority = binary.BigEndian.Uint32(data)
		default: // devices
			chain.odd = true
		}
	}
	c.chains = append(c.chains, chain)
}

func (c *contents) addSet(o object) {
	flags := o.uint32(unix.NFTA_SET_FLAGS)
	if flags&unix.NFT_SET_ANONYMOUS != 0 {
		return // goes with its rule
	}
	set := oldSet{
		name:     o.string(unix.NFTA_SET_NAME),
		keyType:  o.uint32(unix.NFTA_SET_KEY_TYPE),
		keyLen:   o.uint32(unix.NFTA_SET_KEY_LEN),
		flags:    flags,
		interval: o.uint32(unix.NFTA_SET_GC_INTERVAL),
		userdata: string(o[unix.NFTA_SET_USERDATA]),
		odd:      o[nftaSetExpr] != nil || o[nftaSetExpressions] != nil,
	}
	if t := o[unix.NFTA_SET_TIMEOUT]; len(t) == 8 {
		set.timeout = binary.BigEndian.Uint64(t)
	}
	for typ, data := range attributes(o[unix.NFTA_SET_DESC]) {
		if typ == unix.NFTA_SET_DESC_SIZE && len(data) == 4 {
			set.size = binary.BigEndian.Uint32(data)
		}
	}
	c.sets = append(c.sets, set)
}

// flowtables returns all that the kernel says of a table's flowtables and that stays
// as it is while nobody touches them or their devices.
func (n *nfnetlink) flowtables(table string) (string, error) {
	msgs, err := n.list(unix.NFT_MSG_GETFLOWTABLE, table, nil)
	if err != nil {
		return "", fmt.Errorf("read flowtables: %w", err)
	}
	var all []byte
	for _, m := range msgs {
		if decodeObject(payload(m)).string(nftaFlowtableTable) == table {
			all = append(all, canonical(unix.NFT_MSG_GETFLOWTABLE, payload(m))...)
		}
	}
	return string(all), nil
}

// counters returns the values of the counters in a table.
func (n *nfnetlink) counters(table string) (map[string]Counter, error) {
	msgs, err := n.list(unix.NFT_MSG_GETOBJ, table, func(a *attrs) { a.uint32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER) })
	if err != nil {
		return nil, err
	}
	counters := make(map[string]Counter)
	for _, m := range msgs {
		o := decodeObject(payload(m))
		if o.string(unix.NFTA_OBJ_TABLE) != table || o.uint32(unix.NFTA_OBJ_TYPE) != unix.NFT_OBJECT_COUNTER {
			continue
		}
		var c Counter
		for typ, data := range attributes(o[unix.NFTA_OBJ_DATA]) {
			switch {
			case typ == unix.NFTA_COUNTER_BYTES && len(data) == 8:
				c.Bytes = binary.BigEndian.Uint64(data)
			case typ == unix.NFTA_COUNTER_PACKETS && len(data) == 8:
				c.Packets = binary.BigEndian.Uint64(data)
			}
		}
		counters[o.string(unix.NFTA_OBJ_NAME)] = c
	}
	return counters, nil
}
