package dns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of TCP, which RFC 7766 section 6.2 leaves to us.
const (
	maxConns       = 256 // over all zones
	maxZoneConns   = 128
	maxClientConns = 16
	maxPipelined   = 32 // queries of one connection under way
	maxQueryBytes  = 4096
	tcpIdle        = 10 * time.Second // between queries
	tcpPatience    = 5 * time.Second  // for one query to arrive, or one reply to leave
)

// conns counts connections.
type conns struct {
	mu       sync.Mutex
	total    int
	byZone   map[string]int
	byClient map[netip.Addr]int
}

func newConns() *conns {
	return &conns{byZone: make(map[string]int), byClient: make(map[netip.Addr]int)}
}

// admit reports whether there may be one more connection. If so, done ends it.
func (c *conns) admit(zone string, client netip.Addr) (done func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConns || c.byZone[zone] >= maxZoneConns || c.byClient[client] >= maxClientConns {
		return nil, false
	}
	c.total++
	c.byZone[zone]++
	c.byClient[client]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.total--
		release(c.byZone, zone)
		release(c.byClient, client)
	}, true
}

// serveTCP accepts connections until the listener is closed.
func (l *listener) serveTCP(ln net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, or a connection that is gone already
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
				continue
			}
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		done, ok := l.srv.conns.admit(l.view.Load().zone.Zone, client.Addr().Unmap())
		if !ok {
			l.srv.count.tcpRejected.Add(1)
			conn.Close()
			continue
		}
		open.Go(func() {
			defer done()
			l.serveConn(conn, client)
		})
	}
}

// serveConn answers the queries of one connection, in the order in which answers
// come. Replies leave through a queue of their own: a client that does not read
// them must not hold up others who wait for the same answer.
func (l *listener) serveConn(conn net.Conn, client netip.AddrPort) {
	defer conn.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-l.ctx.Done():
			conn.Close()
		case <-stop:
		}
	}()
	// A slot is held from the arrival of a query until its reply has left, so the
	// queue never overflows.
	slots := make(chan struct{}, maxPipelined)
	queue := make(chan []byte, maxPipelined)
	var writer sync.WaitGroup
	writer.Go(func() { writeFramed(conn, queue, slots) })
	l.readQueries(conn, client, slots, queue)
	for range maxPipelined {
		slots <- struct{}{}
	}
	close(queue)
	writer.Wait()
}

func (l *listener) readQueries(conn net.Conn, client netip.AddrPort, slots chan struct{}, queue chan []byte) {
	r := bufio.NewReaderSize(conn, 2+512)
	buf := make([]byte, maxQueryBytes)
	send := func(reply []byte, _ netip.AddrPort) { queue <- reply }
	for {
		conn.SetReadDeadline(time.Now().Add(tcpIdle))
		size, err := r.Peek(2)
		if err != nil || int(binary.BigEndian.Uint16(size)) > maxQueryBytes {
			return
		}
		conn.SetReadDeadline(time.Now().Add(tcpPatience))
		msg, err := readFramed(r, buf)
		if err != nil {
			return
		}
		slots <- struct{}{}
		w := &waiter{client: client, names: true, tcp: true, send: send}
		if !l.handle(w, msg) {
			<-slots
			return // who sends what is not a query by TCP will not send better
		}
	}
}

// writeFramed sends the replies in queue and gives back their slots. After an error
// it only does the latter.
func writeFramed(conn net.Conn, queue <-chan []byte, slots <-chan struct{}) {
	var broken bool
	for reply := range queue {
		if !broken {
			conn.SetWriteDeadline(time.Now().Add(tcpPatience))
			framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
			_, err := conn.Write(append(framed, reply...))
			if broken = err != nil; broken {
				conn.Close() // which ends the reading, too
			}
		}
		<-slots
	}
}

// handle answers one query that came by TCP, or has it asked upstream. It reports
// false if the query gets no reply.
func (l *listener) handle(w *waiter, msg []byte) bool {
	v := l.view.Load()
	reply, what := v.answer(nil, msg, w.client.Addr().Unmap(), true, l.srv.cache, time.Now(), &w.question)
	l.srv.count.outcomes[what].Add(1)
	w.names = w.names && v.zone.Names
	switch what {
	case dropped:
		return false
	case forward:
		w.detach()
		w.zone = v.zone.Zone
		l.srv.forwarder.ask(w)
	default:
		if what == cached && w.names {
			l.srv.teller.tell(w.client.Addr().Unmap(), w.qtype, w.found)
		}
		w.send(reply, w.client)
	}
	return true
}
