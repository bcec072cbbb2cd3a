package access

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// A proof cannot be guessed; the limits keep noise out of the log and work off the
// box. They are for each address alone, so that nobody can use up another's tries,
// and a new code, which only the console can make, begins them anew.
const (
	freeTries = 5                // wrong proofs before an address has to wait
	firstWait = 10 * time.Second // doubles with each further one
	longWait  = 5 * time.Minute
	maxGuests = 1024 // addresses remembered; the longest quiet is forgotten
)

// Errors of [Claim.Redeem].
var (
	ErrNoCode     = errors.New("there is no claim code: set one at the box's console")
	ErrWrongProof = errors.New("the claim code is wrong, or the connection is not the one that it was given for")
)

// A WaitError says that an address had too many tries.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("too many wrong claim codes: try again in %v, or set a new code at the box's console", e.For)
}

// Claim is the code that is valid now, if any. It is kept in memory only: after a
// restart there is another. The zero value has none.
type Claim struct {
	mu     sync.Mutex
	code   *Code
	guests map[netip.Addr]guest
}

// guest is an address that sent wrong proofs.
type guest struct {
	wrong int
	last  time.Time
	until time.Time // before which it is not listened to
}

// Renew makes a new code, in place of one that there may be.
func (c *Claim) Renew() Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renew()
}

func (c *Claim) renew() Code {
	code := NewCode()
	c.code, c.guests = &code, nil
	return code
}

// Code returns the code that is valid, and false if there is none.
func (c *Claim) Code() (Code, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == nil {
		return Code{}, false
	}
	return *c.code, true
}

// Ensure returns the code that is valid, and makes one if there is none.
func (c *Claim) Ensure() Code {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == nil {
		return c.renew()
	}
	return *c.code
}

// Redeem calls grant if proof is the client's for the session, and uses the code up
// unless grant fails. It returns the server's proof. now is by a clock that is not
// set, such as [time.Now]'s monotonic one.
//
// The error is [ErrNoCode], [ErrWrongProof], a [*WaitError], or grant's.
func (c *Claim) Redeem(from netip.Addr, now time.Time, exporter, proof []byte, grant func() error) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == nil {
		return nil, ErrNoCode
	}
	from = from.Unmap()
	g := c.guests[from]
	if wait := g.until.Sub(now); wait > 0 {
		return nil, &WaitError{wait.Round(time.Second) + time.Second}
	}
	if !c.code.Verify(Client, exporter, proof) {
		c.remember(from, g, now)
		return nil, ErrWrongProof
	}
	if err := grant(); err != nil {
		return nil, err
	}
	answer := c.code.Proof(Server, exporter)
	c.code, c.guests = nil, nil
	return answer, nil
}

// remember counts a wrong proof.
func (c *Claim) remember(from netip.Addr, g guest, now time.Time) {
	g.wrong++
	g.last = now
	if over := g.wrong - freeTries; over >= 0 {
		g.until = now.Add(min(firstWait<<min(over, 16), longWait))
	}
	if c.guests == nil {
		c.guests = make(map[netip.Addr]guest)
	}
	if _, known := c.guests[from]; !known && len(c.guests) >= maxGuests {
		oldest := from
		for a, other := range c.guests {
			if oldest == from || other.last.Before(c.guests[oldest].last) {
				oldest = a
			}
		}
		delete(c.guests, oldest)
	}
	c.guests[from] = g
}
