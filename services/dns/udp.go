package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call moves at most.
const batch = 64

// serveUDP answers datagrams until the socket is closed or its read deadline passes.
// What can be answered at once leaves in the batch that it came in; the rest is left
// to the forwarder.
func (l *listener) serveUDP(conn *net.UDPConn) {
	pc := ipv4.NewPacketConn(conn)
	in, out := make([]ipv4.Message, batch), make([]ipv4.Message, batch)
	for i := range batch {
		in[i].Buffers = [][]byte{make([]byte, maxUDPBytes+1)} // one more, to see what is too long
		out[i].Buffers = [][]byte{make([]byte, 0, maxUDPBytes+optBytes)}
	}
	send := func(reply []byte, to netip.AddrPort) {
		if _, err := conn.WriteToUDPAddrPort(reply, to); err != nil {
			l.srv.count.sendErrors.Add(1)
		}
	}
	for {
		n, err := pc.ReadBatch(in, 0)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			l.srv.log.Warn("cannot read queries", "zone", l.view.Load().zone.Zone, "err", err)
			select { // never seen, so never in a hurry
			case <-l.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		l.flush(pc, out[:l.answerBatch(in[:n], out, send)])
	}
}

// answerBatch answers the queries in and returns how many replies are in out.
func (l *listener) answerBatch(in, out []ipv4.Message, send func([]byte, netip.AddrPort)) int {
	now := time.Now()
	v := l.view.Load()
	replies := 0
	var q question
	for i := range in {
		from, ok := in[i].Addr.(*net.UDPAddr)
		if !ok || from.Port == 0 || in[i].Flags&unix.MSG_TRUNC != 0 {
			l.srv.count.outcomes[dropped].Add(1)
			continue
		}
		client := from.AddrPort()
		to := &out[replies]
		reply, what := v.answer(to.Buffers[0], in[i].Buffers[0][:in[i].N], client.Addr(), false, l.srv.cache, now, &q)
		l.srv.count.outcomes[what].Add(1)
		switch what {
		case dropped:
		case forward:
			w := &waiter{question: q, zone: v.zone.Zone, names: v.zone.Names, client: client, send: send}
			w.detach()
			l.srv.forwarder.ask(w)
		default:
			if what == cached && v.zone.Names {
				l.srv.teller.tell(client.Addr(), q.qtype, q.found)
			}
			to.Buffers[0], to.Addr = reply, from
			replies++
		}
	}
	return replies
}

// flush sends replies. One that the kernel refuses is skipped, so as not to keep the
// others.
func (l *listener) flush(pc *ipv4.PacketConn, out []ipv4.Message) {
	for len(out) > 0 {
		n, err := pc.WriteBatch(out, 0)
		if err != nil || n == 0 {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.srv.count.sendErrors.Add(1)
			n = 1
		}
		out = out[n:]
	}
}
