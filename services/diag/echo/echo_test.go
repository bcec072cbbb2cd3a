//go:build linux

package echo_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/diag/api"
	"bulkhead/services/diag/echo"
)

var (
	target = netip.MustParseAddr("198.51.100.9")
	router = netip.MustParseAddr("203.0.113.1")
)

// network answers as a function says, after a while; nil is silence.
type network struct {
	heard chan echo.Answer
	asked []string
	say   func(number uint16, ttl int) (*echo.Answer, time.Duration, error)
}

func (n *network) Send(number uint16, ttl int) error {
	n.asked = append(n.asked, fmt.Sprint(number, " ", ttl))
	a, after, err := n.say(number, ttl)
	if a != nil {
		time.AfterFunc(after, func() { n.heard <- a.At(number, time.Now()) })
	}
	return err
}

func (n *network) Answers() <-chan echo.Answer { return n.heard }

func newNetwork(say func(number uint16, ttl int) (*echo.Answer, time.Duration, error)) *network {
	return &network{heard: make(chan echo.Answer, 100), say: say}
}

func TestPingWaitsForEachAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(func(number uint16, _ int) (*echo.Answer, time.Duration, error) {
			switch number {
			case 2:
				return nil, 0, nil
			case 3:
				return nil, 0, errors.New("the box has no way there")
			}
			return echo.Reply(target), 12345 * time.Microsecond, nil
		})
		begin := time.Now()
		var got []string
		if err := echo.PingOver(t.Context(), n, target, 4, func(e api.Echo) {
			got = append(got, fmt.Sprint(time.Since(begin), ": ", e.Number, " ", e.Target, " ", e.From, " ", e.Milliseconds, " ", e.Trouble))
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"12.345ms: 1 198.51.100.9 198.51.100.9 12.345 ",
			"3s: 2 198.51.100.9 invalid IP 0 no answer",
			"3s: 3 198.51.100.9 invalid IP 0 the box has no way there",
			"4.012345s: 4 198.51.100.9 198.51.100.9 12.345 ",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("differs (-want +got):\n%s", diff)
		}
	})
}

func TestPingEndsWithWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		n := newNetwork(func(uint16, int) (*echo.Answer, time.Duration, error) { return echo.Reply(target), 0, nil })
		told := 0
		if err := echo.PingOver(ctx, n, target, 10, func(api.Echo) { told++ }); !errors.Is(err, context.DeadlineExceeded) || told != 2 {
			t.Errorf("got %v after %d", err, told)
		}
	})
}

func TestTracerouteEndsAtTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(func(_ uint16, ttl int) (*echo.Answer, time.Duration, error) {
			switch {
			case ttl >= 7:
				return echo.Reply(target), 30 * time.Millisecond, nil
			case ttl == 3:
				return nil, 0, nil // does not say who it is
			}
			return echo.Exceeded(router), 10 * time.Millisecond, nil
		})
		var got []string
		if err := echo.TracerouteOver(t.Context(), n, target, 30, func(h api.Hop) {
			e := h.Echoes[2]
			got = append(got, fmt.Sprint(h.Number, " ", len(h.Echoes), " ", e.From, " ", e.Trouble, " ", h.Reached))
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"1 3 203.0.113.1 time to live exceeded false", "2 3 203.0.113.1 time to live exceeded false", "3 3 invalid IP no answer false",
			"4 3 203.0.113.1 time to live exceeded false", "5 3 203.0.113.1 time to live exceeded false", "6 3 203.0.113.1 time to live exceeded false",
			"7 3 198.51.100.9  true",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("differs (-want +got):\n%s", diff)
		}
		if len(n.asked) != 30 {
			t.Errorf("%d requests were sent, want 30: two stretches of five hops", len(n.asked))
		}
	})
}

func TestTracerouteGoesNoFurtherThanTheHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(func(uint16, int) (*echo.Answer, time.Duration, error) { return nil, 0, nil })
		hops := 0
		begin := time.Now()
		if err := echo.TracerouteOver(t.Context(), n, target, 7, func(h api.Hop) { hops = h.Number }); err != nil || hops != 7 {
			t.Errorf("got %v after %d hops", err, hops)
		}
		if took := time.Since(begin); took != 2*2*time.Second+21*20*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// quoting is an error about a request that went to dst.
func quoting(kind, code byte, dst netip.Addr, request []byte) []byte {
	ip := []byte{0x45, 0, 0, 36, 0, 0, 0, 0, 1, 1, 0, 0, 203, 0, 113, 2}
	return append(append(append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, ip...), dst.AsSlice()...), request[:8]...)
}

func TestOnlyAnswersToOurRequestsCount(t *testing.T) {
	k := echo.NewKey(0x1234, [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	request := k.Request(7)
	reply := append([]byte{0, 0, 0, 0}, request[4:]...)
	other := echo.NewKey(0x1235, [8]byte{}).Request(7)
	forged := append([]byte{0, 0, 0, 0}, echo.NewKey(0x1234, [8]byte{}).Request(7)[4:]...)
	for _, tt := range []struct {
		name string
		from netip.Addr
		msg  []byte
		want string
	}{
		{"echo", target, reply, "7 true false "},
		{"echo of another", router, reply, ""},
		{"echo that only knows the number", target, forged, ""},
		{"echo to another program", target, append([]byte{0, 0, 0, 0}, other[4:]...), ""},
		{"request", target, request, ""},
		{"on the way", router, quoting(11, 0, target, request), "7 false false time to live exceeded"},
		{"no host", router, quoting(3, 1, target, request), "7 false true host unreachable"},
		{"some reason", router, quoting(3, 250, target, request), "7 false true unreachable"},
		{"about another program", router, quoting(3, 1, target, other), ""},
		{"about another target", router, quoting(3, 1, router, request), ""},
		{"cut", router, quoting(3, 1, target, request)[:30], ""},
		{"redirect", router, quoting(5, 1, target, request), ""},
		{"nothing", router, nil, ""},
	} {
		if got := k.Read(tt.from, target, tt.msg); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	k := echo.NewKey(0x1234, [8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(k.Request(7))
	f.Add(append([]byte{0, 0, 0, 0}, k.Request(7)[4:]...))
	f.Add(quoting(11, 0, target, k.Request(7)))
	f.Fuzz(func(t *testing.T, msg []byte) {
		k.Read(target, target, msg) // must not panic
	})
}
