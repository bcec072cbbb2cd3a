package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Patience. Clients ask again after 5 s, so an answer must be there before that.
const (
	firstTimeout  = time.Second     // for one try, while every resolver had none yet
	laterTimeout  = 2 * time.Second // for one try after that
	totalTimeout  = 4500 * time.Millisecond
	maxRounds     = 3
	maxForeign    = 16 // messages that are no reply, before we use TCP
	downAfter     = 3  // failures in a row
	firstBackoff  = time.Second
	maxBackoff    = 30 * time.Second
	respellPardon = time.Hour // how long a resolver that respells names may
)

// errFailed says that a resolver answered, but not the question.
var errFailed = errors.New("resolver has no answer")

// upstream is one resolver that questions are forwarded to, and how it fares.
type upstream struct {
	addr   netip.AddrPort
	secure *secure // nil: asked in the clear
	log    *slog.Logger
	count  *counters

	mu       sync.Mutex
	failures int       // in a row
	retryAt  time.Time // of one that is down
	pardoned time.Time // until when it may respell names
}

// same reports whether other is the same resolver, asked in the same way.
func (u *upstream) same(other *upstream) bool {
	switch {
	case u.addr != other.addr || (u.secure == nil) != (other.secure == nil):
		return false
	case u.secure == nil:
		return true
	}
	return u.secure.config.ServerName == other.secure.config.ServerName
}

// usable reports whether u is worth a try at now. Of a resolver that is down it says
// so to one caller for each backoff: that one's query is the probe.
func (u *upstream) usable(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failures < downAfter {
		return true
	}
	if now.Before(u.retryAt) {
		return false
	}
	u.retryAt = now.Add(u.backoff())
	return true
}

func (u *upstream) backoff() time.Duration {
	return min(firstBackoff<<min(max(u.failures-downAfter, 0), 10), maxBackoff)
}

// record notes that u has replied, with whatever, or (err) that it has not.
func (u *upstream) record(err error, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		if u.failures >= downAfter {
			u.log.Info("resolver answers again", "resolver", u.addr)
		}
		u.failures = 0
		return
	}
	u.failures++
	u.retryAt = now.Add(u.backoff())
	if u.failures == downAfter {
		u.log.Warn("resolver does not answer", "resolver", u.addr, "err", err)
	}
}

// pardon lets u respell names for a while.
func (u *upstream) pardon() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pardoned = time.Now().Add(respellPardon)
}

func (u *upstream) mayRespell(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.pardoned)
}

// order returns the resolvers to try at now: in their configured order, those that
// are down behind the others.
func order(ups []*upstream, now time.Time) []*upstream {
	var good, bad []*upstream
	for _, u := range ups {
		if u.usable(now) {
			good = append(good, u)
		} else {
			bad = append(bad, u)
		}
	}
	return append(good, bad...)
}

// resolve asks one resolver after the other until one knows the answer. It returns
// nil if none does in time.
func resolve(ctx context.Context, ups []*upstream, q *question) *entry {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	list := order(ups, time.Now())
	timeout := firstTimeout
	for range maxRounds {
		for _, u := range slices.Clone(list) {
			e, err := u.exchange(ctx, q, timeout)
			if err == nil {
				return e
			}
			if errors.Is(err, errFailed) {
				// Asking it once more would not change its mind.
				list = slices.DeleteFunc(list, func(v *upstream) bool { return v == u })
			}
		}
		timeout = laterTimeout
	}
	return nil
}

// exchange asks u in the way that the configuration wants.
func (u *upstream) exchange(ctx context.Context, q *question, timeout time.Duration) (*entry, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var v verdict
	var e *entry
	var err error
	if u.secure != nil {
		v, e, err = u.exchangeSecure(ctx, q)
	} else {
		v, e, err = u.exchangeClear(ctx, q)
	}
	// Whether it was the resolver that failed or we who gave up, only the one is its
	// fault.
	if !errors.Is(ctx.Err(), context.Canceled) {
		u.record(err, time.Now())
	}
	switch {
	case err != nil:
		u.count.upstreamErrors.Add(1)
		return nil, fmt.Errorf("ask resolver %s: %w", u.addr, err)
	case v != answered:
		u.count.upstreamFailed.Add(1)
		return nil, fmt.Errorf("ask resolver %s: %w", u.addr, errFailed)
	}
	return e, nil
}

// exchangeClear asks u by UDP and then, where it must be, by TCP or without EDNS.
func (u *upstream) exchangeClear(ctx context.Context, q *question) (verdict, *entry, error) {
	query := newQuery(q, true)
	v, e, err := u.udp(ctx, query)
	if err == nil && v == simpler {
		query = newQuery(q, false)
		v, e, err = u.udp(ctx, query)
	}
	if err == nil && (v == truncated || v == foreign || v == respelled) {
		respelt := v == respelled
		u.count.upstreamTCP.Add(1)
		v, e, err = u.tcp(ctx, query)
		if respelt && err != nil {
			// Some do neither. The next try will take their spelling: somebody who had
			// guessed port and ID once would have to do so again.
			u.pardon()
		}
	}
	return v, e, err
}

var buffers = sync.Pool{New: func() any { return new([4096]byte) }}

// udp sends query from a port of its own, chosen at random by the kernel, and waits
// for the reply to it. What else arrives is counted; after too much of it the verdict
// is foreign, which is to say: somebody is guessing, use TCP.
func (u *upstream) udp(ctx context.Context, query []byte) (verdict, *entry, error) {
	var d net.Dialer
	// Connected, so that the kernel passes only what comes from the resolver, and
	// tells of ports that nobody listens on.
	conn, err := d.DialContext(ctx, "udp", u.addr.String())
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	u.count.upstreamQueries.Add(1)
	if _, err := conn.Write(query); err != nil {
		return 0, nil, err
	}
	buf := buffers.Get().(*[4096]byte)
	defer buffers.Put(buf)
	for range maxForeign {
		n, err := conn.Read(buf[:])
		if err != nil {
			return 0, nil, err
		}
		if v, e := u.read(query, buf[:n]); v != foreign {
			return v, e, nil
		}
		u.count.upstreamForeign.Add(1)
	}
	return foreign, nil, nil
}

// tcp asks the same over a connection of its own. Who answers there has seen the
// query, so its spelling of names is accepted, and remembered as its habit.
func (u *upstream) tcp(ctx context.Context, query []byte) (verdict, *entry, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.addr.String())
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return 0, nil, err
	}
	msg, err := readFramed(conn, nil)
	if err != nil {
		return 0, nil, err
	}
	v, e := u.read(query, msg)
	if v == respelled {
		u.pardon()
		v, e = u.read(query, msg)
	}
	if v == foreign || v == truncated {
		v = failed
	}
	return v, e, nil
}

// read judges a message from u. Where u is known to respell names, its spelling is
// put right first.
func (u *upstream) read(query, msg []byte) (verdict, *entry) {
	now := time.Now()
	v, e := readReply(query, msg, now)
	if v == respelled && u.mayRespell(now) {
		end := skipName(query, headerBytes)
		copy(msg[headerBytes:end], query[headerBytes:end])
		v, e = readReply(query, msg, now)
	}
	return v, e
}

// readFramed reads one message with its length in front, RFC 1035 section 4.2.2, into
// buf if that is large enough.
func readFramed(r io.Reader, buf []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}
