package dns

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
)

// Bounds of what flowd is told.
const (
	maxUntold   = 8192                   // answers that wait to be told
	maxToldEach = 16                     // addresses of one answer; clients rarely try more
	tellPause   = 100 * time.Millisecond // between two tellings, unless half of maxUntold wait
	tellRetry   = time.Second            // of flowd not being there
)

// teller tells flowd which addresses clients were told for which names, so that flows
// have names. Who answers only puts down who was told what; everything else is done by
// one goroutine that may be slow. While flowd is not there, nothing is put down.
type teller struct {
	path     string        // flowd's socket
	patience time.Duration // with a flowd that takes nothing; tellPause, but for tests
	there    atomic.Bool   // flowd listens
	many     chan struct{} // enough wait to be told at once

	told, lost atomic.Uint64 // answers

	mu     sync.Mutex
	untold []telling // at most maxUntold
	missed uint32    // answers lost that flowd has not heard of yet
}

// telling is that a client was given an answer.
type telling struct {
	client [4]byte
	answer *entry
}

func newTeller(runDir string) *teller {
	return &teller{path: filepath.Join(runDir, svcconf.NamesDir, svcconf.NamesSocket), patience: tellPause, many: make(chan struct{}, 1)}
}

// tell has flowd told that a client was given e as the answer to a question of some type.
// It does not block.
func (t *teller) tell(client netip.Addr, qtype uint16, e *entry) {
	if qtype != dns.TypeA || !t.there.Load() {
		return
	}
	t.mu.Lock()
	if !t.there.Load() { // it went just now, and what waited for it is forgotten
		t.mu.Unlock()
		return
	}
	n := len(t.untold)
	if n < maxUntold {
		t.untold = append(t.untold, telling{client.As4(), e})
	} else {
		t.missed++
		t.lost.Add(1)
	}
	t.mu.Unlock()
	if n == maxUntold/2 {
		select {
		case t.many <- struct{}{}:
		default:
		}
	}
}

// run tells flowd whenever it is there, until ctx ends.
func (t *teller) run(ctx context.Context) error {
	for {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: t.path, Net: "unixgram"})
		if err == nil {
			t.there.Store(true)
			t.serve(ctx, conn)
			t.there.Store(false)
			conn.Close()
			t.forget()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tellRetry):
		}
	}
}

// serve tells until flowd goes away or ctx ends.
func (t *teller) serve(ctx context.Context, conn *net.UnixConn) {
	tick := time.NewTicker(tellPause)
	defer tick.Stop()
	var list []telling
	spare := make([]telling, 0, maxUntold)
	buf := make([]byte, 0, svcconf.MaxNames)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-t.many:
		}
		t.mu.Lock()
		list, t.untold = t.untold, spare
		t.mu.Unlock()
		if !t.send(conn, buf, list) {
			return
		}
		clear(list) // answers may go
		spare = list[:0]
	}
}

// send tells what is in list, in as many datagrams as that takes. It reports false if
// flowd is gone. A flowd that takes nothing loses what is in the list, and no more.
func (t *teller) send(conn *net.UnixConn, buf []byte, list []telling) bool {
	conn.SetWriteDeadline(time.Now().Add(t.patience))
	for len(list) > 0 {
		missed := t.takeMissed()
		b, n := fill(svcconf.NamesHeader(buf, missed), list)
		if len(b) > headerOfNames || missed > 0 {
			if _, err := conn.Write(b); err != nil {
				t.miss(missed, len(list))
				return isTimeout(err)
			}
		}
		t.told.Add(uint64(n))
		list = list[n:]
	}
	return true
}

// headerOfNames is how long a datagram without names is.
const headerOfNames = 4

// fill appends the first answers of list to a datagram, each as a whole, and returns how
// many there was room for. At least one always fits.
func fill(b []byte, list []telling) ([]byte, int) {
	var addrs [maxToldEach]netip.Addr
	for i, l := range list {
		begin := len(b)
		named := svcconf.Named{Client: netip.AddrFrom4(l.client), Name: textOf(l.answer.wire)}
		for _, named.Addr = range l.answer.addresses(addrs[:0]) {
			var ok bool
			if b, ok = svcconf.AppendNamed(b, named); !ok {
				return b[:begin], i
			}
		}
	}
	return b, len(list)
}

func (t *teller) takeMissed() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.missed
	t.missed = 0
	return n
}

// miss counts n answers as lost, and those before them that flowd did not hear of.
func (t *teller) miss(before uint32, n int) {
	t.lost.Add(uint64(n))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed += before + uint32(n)
}

// forget drops what nobody is there to be told of.
func (t *teller) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.untold, t.missed = nil, 0
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// textOf returns the name that a message of ours asks for as people write it, without the
// final dot. It is "" for names of which a label has a dot of its own: they would pass
// for others.
func textOf(wire []byte) string {
	var text [nameBytes]byte
	n := 0
	for at := headerBytes; wire[at] != 0; {
		if n > 0 {
			text[n] = '.'
			n++
		}
		for _, c := range wire[at+1 : at+1+int(wire[at])] {
			if c == '.' {
				return ""
			}
			text[n] = c
			n++
		}
		at += 1 + int(wire[at])
	}
	return string(text[:n])
}

// addresses appends the IPv4 addresses that e answers with, as many as addrs has room for.
func (e *entry) addresses(addrs []netip.Addr) []netip.Addr {
	at := skipName(e.wire, headerBytes) + 4
	for range binary.BigEndian.Uint16(e.wire[6:]) {
		rr := skipName(e.wire, at)
		size := int(binary.BigEndian.Uint16(e.wire[rr+8:]))
		if binary.BigEndian.Uint16(e.wire[rr:]) == dns.TypeA && size == 4 && len(addrs) < cap(addrs) {
			addrs = append(addrs, netip.AddrFrom4([4]byte(e.wire[rr+10:])))
		}
		at = rr + 10 + size
	}
	return addrs
}
