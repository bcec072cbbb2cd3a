package dns

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// secure is the way to a resolver over TLS, RFC 7858: one connection, over which many
// questions are under way at once, for as long as there are some.
type secure struct {
	addr   netip.AddrPort
	config *tls.Config

	turn chan struct{} // who has its word may open a connection
	mu   sync.Mutex
	open *session // nil: none
}

// quiet is how long a connection stays open without a question. Opening one takes two
// round trips and a signature.
const quiet = 20 * time.Second

// block is what the length of a question is filled up to a multiple of, RFC 8467 section
// 4.1: whoever listens must not know a name by its length.
const block = 128

// newSecure returns the way to the resolver whose certificate says name. roots are who may
// sign it; nil for those that the system trusts.
func newSecure(addr netip.AddrPort, name string, roots *x509.CertPool) *secure {
	return &secure{addr: addr, turn: make(chan struct{}, 1), config: &tls.Config{
		ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"},
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}}
}

// errGone says that a connection ended under a question.
var errGone = errors.New("the connection ended")

// ask sends a query that has an OPT record at its end, and returns the message that
// answers it, with the query's ID.
func (s *secure) ask(ctx context.Context, query []byte) ([]byte, error) {
	for {
		c, fresh, err := s.session(ctx)
		if err != nil {
			return nil, err
		}
		msg, err := c.ask(ctx, query)
		if errors.Is(err, errGone) && !fresh && ctx.Err() == nil {
			continue // it was closed for being idle, perhaps
		}
		return msg, err
	}
}

// session returns the open connection, or opens one.
func (s *secure) session(ctx context.Context) (c *session, fresh bool, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	s.mu.Lock()
	c = s.open
	s.mu.Unlock()
	if c != nil && !c.over() {
		return c, false, nil
	}
	d := tls.Dialer{NetDialer: new(net.Dialer), Config: s.config}
	conn, err := d.DialContext(ctx, "tcp", s.addr.String())
	if err != nil {
		return nil, false, err
	}
	c = &session{conn: conn, waiting: map[uint16]chan<- []byte{}, gone: make(chan struct{})}
	go c.read()
	s.mu.Lock()
	s.open = c
	s.mu.Unlock()
	return c, true, nil
}

// close ends the open connection.
func (s *secure) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.open.conn.Close()
	}
}

// session is one connection.
type session struct {
	conn net.Conn
	gone chan struct{} // closed at the end

	writing sync.Mutex
	mu      sync.Mutex
	waiting map[uint16]chan<- []byte // by ID; nil at the end
}

func (c *session) over() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func (c *session) ask(ctx context.Context, query []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	id, ok := c.wait(answer)
	if !ok {
		return nil, errGone
	}
	defer c.forget(id)
	framed := pad(query)
	binary.BigEndian.PutUint16(framed[2:], id)
	if err := c.write(ctx, framed); err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	select {
	case msg := <-answer:
		copy(msg, query[:2])
		return msg, nil
	case <-c.gone:
		return nil, errGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wait takes an ID that no other question has.
func (c *session) wait(answer chan<- []byte) (id uint16, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil || len(c.waiting) >= 2*maxFlights {
		return 0, false
	}
	for taken := true; taken; _, taken = c.waiting[id] {
		var b [2]byte
		rand.Read(b[:]) // never fails
		id = binary.BigEndian.Uint16(b[:])
	}
	c.waiting[id] = answer
	_ = c.conn.SetReadDeadline(time.Now().Add(quiet)) // it is read from then on
	return id, true
}

func (c *session) forget(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *session) write(ctx context.Context, framed []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if at, ok := ctx.Deadline(); ok {
		_ = c.conn.SetWriteDeadline(at) // a connection without deadlines fails elsewhere
	}
	_, err := c.conn.Write(framed)
	return err
}

// read hands messages to who waits for them, until the connection ends.
func (c *session) read() {
	defer func() {
		c.conn.Close()
		c.mu.Lock()
		c.waiting = nil
		c.mu.Unlock()
		close(c.gone)
	}()
	for {
		msg, err := readFramed(c.conn, nil)
		if err != nil {
			return
		}
		if len(msg) < headerBytes {
			return // whoever that is speaks no DNS
		}
		id := binary.BigEndian.Uint16(msg)
		c.mu.Lock()
		answer := c.waiting[id]
		delete(c.waiting, id) // a second answer is none
		c.mu.Unlock()
		if answer != nil {
			answer <- msg // has room for one
		}
	}
}

// pad returns the query behind its length, with as much padding (RFC 7830) in its OPT
// record as fills a block.
func pad(query []byte) []byte {
	const option = 4 // code and length
	fill := (block - (len(query)+option)%block) % block
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)+option+fill), uint16(len(query)+option+fill))
	framed = append(framed, query...)
	binary.BigEndian.PutUint16(framed[len(framed)-2:], uint16(option+fill)) // RDLENGTH, which was 0
	framed = append(framed, 0, 12, byte(fill>>8), byte(fill))
	return append(framed, make([]byte, fill)...)
}

// exchangeSecure asks u over TLS. Who answers there is who the configuration means, and
// has seen the query: its spelling of names is accepted.
func (u *upstream) exchangeSecure(ctx context.Context, q *question) (verdict, *entry, error) {
	query := newQuery(q, true)
	u.count.upstreamQueries.Add(1)
	msg, err := u.secure.ask(ctx, query)
	if err != nil {
		return 0, nil, err
	}
	v, e := u.read(query, msg)
	if v == respelled {
		u.pardon()
		v, e = u.read(query, msg)
	}
	if v != answered { // there is nothing that another way could do better
		v = failed
	}
	return v, e, nil
}
