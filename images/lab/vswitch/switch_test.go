package vswitch_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab/vswitch"
)

// plug adds a port and returns the far end of its cable, which speaks QEMU's framing.
func plug(t testing.TB, s *vswitch.Switch, name string, m vswitch.Mode) (*vswitch.Port, net.Conn) {
	t.Helper()
	p, err := s.AddPort(name, m)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	p.Plug(vswitch.NewStream(near))
	t.Cleanup(func() { far.Close() })
	return p, far
}

func newSwitch(t testing.TB) *vswitch.Switch {
	t.Helper()
	s := vswitch.New()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t testing.TB, w io.Writer, frame []byte) {
	t.Helper()
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesCrossTheSwitch(t *testing.T) {
	s := newSwitch(t)
	_, client := plug(t, s, "client", vswitch.Access(10))
	_, trunk := plug(t, s, "trunk", vswitch.Trunk(10, 20))
	write(t, client, frame(broadcast, ann))
	if diff := cmp.Diff(frame(broadcast, ann, q(10)), read(t, trunk)); diff != "" {
		t.Errorf("on the trunk (-want +got):\n%s", diff)
	}
	write(t, trunk, frame(ann, bob, q(20))) // a VLAN without machines
	write(t, trunk, frame(ann, bob, q(10)))
	if diff := cmp.Diff(frame(ann, bob), read(t, client)); diff != "" {
		t.Errorf("at the client (-want +got):\n%s", diff)
	}
}

// TestDropsAreCounted sends what is not taken, and then what is: when that arrives
// all before it has been counted.
func TestDropsAreCounted(t *testing.T) {
	s := newSwitch(t)
	client, c := plug(t, s, "client", vswitch.Access(10))
	trunk, tr := plug(t, s, "trunk", vswitch.Trunk(10))
	gone, err := s.AddPort("gone", vswitch.Access(10))
	if err != nil {
		t.Fatal(err)
	}
	for _, tags := range [][]tag{{q(10)}, {q(10), q(20)}, {q(0)}, nil} {
		write(t, c, frame(broadcast, ann, tags...))
	}
	read(t, tr)
	for _, tags := range [][]tag{nil, {q(20)}, {q(20)}, {q(10)}} {
		write(t, tr, frame(ann, bob, tags...))
	}
	read(t, c)
	bytes := uint64(len(frame(bob, ann)))
	wantClient := vswitch.Counters{In: 1, InBytes: bytes, Out: 1, OutBytes: bytes}
	wantClient.Dropped[vswitch.NotUntagged], wantClient.Dropped[vswitch.Nested], wantClient.Dropped[vswitch.Priority] = 1, 1, 1
	wantTrunk := vswitch.Counters{In: 1, InBytes: bytes + 4, Out: 1, OutBytes: bytes + 4}
	wantTrunk.Dropped[vswitch.NotTagged], wantTrunk.Dropped[vswitch.Foreign] = 1, 2
	var wantGone vswitch.Counters
	wantGone.Dropped[vswitch.Unplugged] = 1
	for _, tt := range []struct {
		port *vswitch.Port
		want vswitch.Counters
	}{{client, wantClient}, {trunk, wantTrunk}, {gone, wantGone}} {
		if diff := cmp.Diff(tt.want, tt.port.Counters()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.port.Name, diff)
		}
	}
	if got, want := client.Counters().String(), "in 1, out 1, not untagged 1, priority-tagged 1, nested tags 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPortThatReadsNothingHoldsNobodyUp fills the queue of a port whose other end
// never reads.
func TestPortThatReadsNothingHoldsNobodyUp(t *testing.T) {
	s := newSwitch(t)
	_, client := plug(t, s, "client", vswitch.Access(10))
	dead, _ := plug(t, s, "dead", vswitch.Access(10))
	_, alive := plug(t, s, "alive", vswitch.Access(10))
	for range 2000 {
		write(t, client, frame(broadcast, ann))
		read(t, alive)
	}
	c := dead.Counters()
	if c.Out+c.Dropped[vswitch.QueueFull] != 2000 || c.Dropped[vswitch.QueueFull] == 0 {
		t.Errorf("the dead port: %s", c)
	}
}

func TestModeOfARunningPort(t *testing.T) {
	s := newSwitch(t)
	_, client := plug(t, s, "client", vswitch.Access(10))
	p, box := plug(t, s, "box", vswitch.Access(10))
	write(t, box, frame(ann, bob))
	read(t, client)
	if err := p.SetMode(vswitch.Trunk(10)); err != nil {
		t.Fatal(err)
	}
	write(t, client, frame(bob, ann))
	if diff := cmp.Diff(frame(bob, ann, q(10)), read(t, box)); diff != "" {
		t.Errorf("as a trunk (-want +got):\n%s", diff)
	}
	p.Send(frame(bob, ann)) // what the mode would not let through
	if diff := cmp.Diff(frame(bob, ann), read(t, box)); diff != "" {
		t.Errorf("sent as it is (-want +got):\n%s", diff)
	}
	if err := p.SetMode(vswitch.Access(0x1000)); err == nil {
		t.Error("a VLAN that cannot be was taken")
	}
}

// TestMachineComesBack ends the connection of a machine and starts it again, which a
// watcher sees.
func TestMachineComesBack(t *testing.T) {
	s := newSwitch(t)
	_, client := plug(t, s, "client", vswitch.Access(10))
	p, err := s.AddPort("box", vswitch.Trunk(10))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []bool
	p.Watch(func(in bool, _ []byte) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, in)
	})
	for range 2 {
		near, box := net.Pipe()
		p.Plug(vswitch.NewStream(near))
		write(t, box, frame(broadcast, bob, q(10)))
		read(t, client)
		write(t, client, frame(bob, ann))
		read(t, box)
		box.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]bool{true, false, true, false}, seen); diff != "" {
		t.Errorf("watched (-want +got):\n%s", diff)
	}
}

// TestNonsenseOnTheStreamEndsIt sends a length that QEMU never would.
func TestNonsenseOnTheStreamEndsIt(t *testing.T) {
	s := newSwitch(t)
	_, c := plug(t, s, "client", vswitch.Access(10))
	if _, err := c.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %d bytes and %v, want the end", n, err)
	}
}

func TestClosedSwitchTakesNoCables(t *testing.T) {
	s := vswitch.New()
	p, _ := plug(t, s, "client", vswitch.Access(10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	p.Plug(vswitch.NewStream(near))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if p.Plugged() {
		t.Error("there is a cable")
	}
}
