//go:build linux

package echo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"bulkhead/services/diag/api"
)

type Answer = answer

// At is the answer to a request.
func (a answer) At(number uint16, at time.Time) Answer {
	a.number, a.at = number, at
	return a
}

func Reply(from netip.Addr) *Answer { return &answer{from: from, arrived: true} }

func Exceeded(from netip.Addr) *Answer {
	return &answer{from: from, trouble: "time to live exceeded"}
}

// Network is a wire that a test makes.
type Network interface {
	Send(number uint16, ttl int) error
	Answers() <-chan Answer
}

type pretended struct{ Network }

func (p pretended) send(number uint16, ttl int) error { return p.Send(number, ttl) }
func (p pretended) answers() <-chan answer            { return p.Answers() }

func PingOver(ctx context.Context, n Network, target netip.Addr, count int, tell func(api.Echo)) error {
	return ping(ctx, pretended{n}, target, count, tell)
}

func TracerouteOver(ctx context.Context, n Network, target netip.Addr, hops int, tell func(api.Hop)) error {
	return traceroute(ctx, pretended{n}, target, hops, tell)
}

type Key = key

func NewKey(id uint16, token [8]byte) Key { return key{id, token} }

func (k key) Request(number uint16) []byte { return k.request(number) }

// Read says what a message means: number, arrived, final and trouble; "" if nothing.
func (k key) Read(from, target netip.Addr, msg []byte) string {
	a, ok := k.read(from, target, msg)
	if !ok {
		return ""
	}
	return fmt.Sprint(a.number, a.arrived, a.final, " ", a.trouble)
}
