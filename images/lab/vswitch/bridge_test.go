package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab/vswitch"
)

var (
	ann       = vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}
	bob       = vswitch.MAC{0x52, 0x54, 0, 0, 0, 2}
	broadcast = vswitch.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

const ipv4 = 0x0800

// tag is what stands for a tag in the calls of frame: type and VLAN with priority.
type tag struct{ kind, vlan uint16 }

func q(vlan uint16) tag { return tag{0x8100, vlan} }

// frame builds one with tags, outer first, and ten bytes of payload.
func frame(dst, src vswitch.MAC, tags ...tag) []byte {
	b := slices.Concat(dst[:], src[:])
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t.kind)
		b = binary.BigEndian.AppendUint16(b, t.vlan)
	}
	b = binary.BigEndian.AppendUint16(b, ipv4)
	return append(b, "0123456789"...)
}

// office is a switch with two machines in VLAN 10, one in 20, a trunk with both, a
// port that is off and one that takes 10 without and 20 with tags.
func office(t testing.TB) *vswitch.Bridge {
	t.Helper()
	var b vswitch.Bridge
	for _, m := range []vswitch.Mode{
		vswitch.Access(10), vswitch.Access(10), vswitch.Access(20), vswitch.Trunk(10, 20), {}, {Untagged: 10, Tagged: []uint16{20}},
	} {
		if err := b.SetMode(b.AddPort(), m); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}

const (
	ten, ten2, twenty, trunk, off, hybrid = 0, 1, 2, 3, 4, 5
)

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// TestFramesStayInTheirVLAN says for each port and kind of frame where it goes, in
// which form, or why nowhere.
func TestFramesStayInTheirVLAN(t *testing.T) {
	out := func(port int, tags ...tag) vswitch.Out {
		return vswitch.Out{Port: port, Frame: frame(broadcast, ann, tags...)}
	}
	for _, tt := range []struct {
		name string
		in   int
		tags []tag
		want []vswitch.Out
		drop vswitch.Reason
	}{
		{"untagged on an access port", ten, nil, []vswitch.Out{out(ten2), out(trunk, q(10)), out(hybrid)}, vswitch.Passed},
		{"untagged on another VLAN's", twenty, nil, []vswitch.Out{out(trunk, q(20)), out(hybrid, q(20))}, vswitch.Passed},
		{"own VLAN's tag on an access port", ten, []tag{q(10)}, nil, vswitch.NotUntagged},
		{"other VLAN's tag on an access port", ten, []tag{q(20)}, nil, vswitch.NotUntagged},
		{"two tags on an access port", ten, []tag{q(10), q(20)}, nil, vswitch.Nested},
		{"priority tag on an access port", ten, []tag{q(0x6000)}, nil, vswitch.Priority},
		{"provider's tag on an access port", ten, []tag{{0x88a8, 20}}, nil, vswitch.Nested},
		{"old provider's tag on an access port", ten, []tag{{0x9100, 20}}, nil, vswitch.Nested},
		{"tagged on the trunk", trunk, []tag{q(10)}, []vswitch.Out{out(ten), out(ten2), out(hybrid)}, vswitch.Passed},
		{"with priority on the trunk", trunk, []tag{q(20 | 0xe000)}, []vswitch.Out{out(twenty), out(hybrid, q(20))}, vswitch.Passed},
		{"untagged on the trunk", trunk, nil, nil, vswitch.NotTagged},
		{"foreign VLAN on the trunk", trunk, []tag{q(30)}, nil, vswitch.Foreign},
		{"VLAN 4095 on the trunk", trunk, []tag{q(4095)}, nil, vswitch.Foreign},
		{"priority tag on the trunk", trunk, []tag{q(0)}, nil, vswitch.Priority},
		{"two tags on the trunk", trunk, []tag{q(10), q(20)}, nil, vswitch.Nested},
		{"provider's tag inside on the trunk", trunk, []tag{q(10), {0x88a8, 20}}, nil, vswitch.Nested},
		{"untagged on a hybrid port", hybrid, nil, []vswitch.Out{out(ten), out(ten2), out(trunk, q(10))}, vswitch.Passed},
		{"tagged on a hybrid port", hybrid, []tag{q(20)}, []vswitch.Out{out(twenty), out(trunk, q(20))}, vswitch.Passed},
		{"its untagged VLAN's tag on a hybrid port", hybrid, []tag{q(10)}, nil, vswitch.Foreign},
		{"untagged on a port that is off", off, nil, nil, vswitch.NotTagged},
		{"tagged on a port that is off", off, []tag{q(10)}, nil, vswitch.NotUntagged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, drop := office(t).Forward(tt.in, frame(broadcast, ann, tt.tags...), start)
			if drop != tt.drop {
				t.Errorf("got %q, want %q", drop, tt.drop)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFramesThatNoSwitchPassesOn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame []byte
		want  vswitch.Reason
	}{
		{"empty", nil, vswitch.Malformed},
		{"no type", frame(bob, ann)[:13], vswitch.Malformed},
		{"tag without a type", frame(bob, ann, q(10))[:17], vswitch.Malformed},
		{"too long", append(frame(bob, ann), make([]byte, vswitch.MaxFrame)...), vswitch.Malformed},
		{"from everybody", frame(bob, broadcast), vswitch.Malformed},
		{"spanning tree", frame(vswitch.MAC{0x01, 0x80, 0xc2, 0, 0, 0}, ann), vswitch.Reserved},
		{"LLDP", frame(vswitch.MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e}, ann), vswitch.Reserved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, got := office(t).Forward(ten, tt.frame, start)
			if got != tt.want || len(out) != 0 {
				t.Errorf("got %q and %d copies, want %q", got, len(out), tt.want)
			}
		})
	}
}

// ports are where a frame to bob goes that comes in at a port.
func ports(b *vswitch.Bridge, in int, at time.Time, tags ...tag) []int {
	list, _ := b.Forward(in, frame(bob, ann, tags...), at)
	got := []int{}
	for _, o := range list {
		got = append(got, o.Port)
	}
	return got
}

func want(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if diff := cmp.Diff(append([]int{}, want...), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestWhereAMachineIsIsLearntPerVLANAndForgotten(t *testing.T) {
	b := office(t)
	want(t, "unknown", ports(b, ten, start), ten2, trunk, hybrid)
	b.Forward(ten2, frame(ann, bob), start)
	want(t, "known", ports(b, ten, start.Add(time.Minute)), ten2)
	want(t, "unknown in the other VLAN", ports(b, twenty, start), trunk, hybrid)
	if _, got := b.Forward(ten2, frame(bob, ann), start); got != vswitch.Local {
		t.Errorf("to a machine behind the same port: got %q, want %q", got, vswitch.Local)
	}
	b.Forward(trunk, frame(ann, bob, q(10)), start)
	want(t, "moved", ports(b, ten, start.Add(time.Minute)), trunk)
	want(t, "aged", ports(b, ten, start.Add(5*time.Minute)), ten2, trunk, hybrid)
	b.Forward(trunk, frame(ann, bob, q(10)), start)
	b.Forget(trunk)
	want(t, "unplugged", ports(b, ten, start), ten2, trunk, hybrid)
	b.Forward(trunk, frame(ann, bob, q(10)), start)
	if err := b.SetMode(trunk, vswitch.Trunk(20)); err != nil {
		t.Fatal(err)
	}
	want(t, "left the VLAN", ports(b, ten, start), ten2, hybrid)
}

// TestFloodOfAddressesPushesNobodyOut fills the table with made-up addresses, as an
// attacker does who wants to see what is for others.
func TestFloodOfAddressesPushesNobodyOut(t *testing.T) {
	b := office(t)
	b.Forward(ten2, frame(ann, bob), start)
	for i := range 5000 {
		b.Forward(hybrid, frame(ann, vswitch.MAC{0x02, 0, 0, 0, byte(i >> 8), byte(i)}), start)
	}
	want(t, "known before the flood", ports(b, ten, start), ten2)
	late := vswitch.MAC{0x52, 0x54, 0, 0, 0, 9}
	b.Forward(trunk, frame(ann, late, q(10)), start.Add(time.Second))
	if out, _ := b.Forward(ten, frame(late, bob), start.Add(2*time.Second)); len(out) != 3 {
		t.Errorf("a machine that found no room: %d copies, want 3", len(out))
	}
	b.Forward(trunk, frame(ann, late, q(10)), start.Add(6*time.Minute))
	if out, _ := b.Forward(ten, frame(late, bob), start.Add(6*time.Minute)); len(out) != 1 {
		t.Errorf("when the flood has aged: %d copies, want 1", len(out))
	}
}

func TestModesThatNoPortCanHave(t *testing.T) {
	b := office(t)
	for _, m := range []vswitch.Mode{vswitch.Access(4095), vswitch.Trunk(0), vswitch.Trunk(4095), {Untagged: 10, Tagged: []uint16{10}}} {
		if err := b.SetMode(ten, m); err == nil {
			t.Errorf("%+v was taken", m)
		}
	}
}

// FuzzForward holds for any frame at any port that copies leave only by other ports
// of the one VLAN that the frame belongs to, tagged as the port wants it, and are
// otherwise unchanged.
func FuzzForward(f *testing.F) {
	for _, tags := range [][]tag{nil, {q(10)}, {q(20 | 0xe000)}, {q(0)}, {q(10), q(20)}, {{0x88a8, 10}}} {
		f.Add(uint8(ten), frame(broadcast, ann, tags...), frame(bob, ann, tags...))
		f.Add(uint8(trunk), frame(bob, ann, tags...), frame(ann, bob, tags...))
		f.Add(uint8(hybrid), frame(bob, ann, tags...), frame(ann, bob, tags...))
	}
	untagged := [...]uint16{10, 10, 20, 0, 0, 10}
	tagged := [...][]uint16{trunk: {10, 20}, hybrid: {20}}
	f.Fuzz(func(t *testing.T, port uint8, first, second []byte) {
		b := office(t)
		in := int(port) % len(untagged)
		b.Forward((in+1)%len(untagged), first, start) // something may be learnt
		before := bytes.Clone(second)
		out, drop := b.Forward(in, second, start)
		if !bytes.Equal(before, second) {
			t.Fatal("the frame was changed")
		}
		if drop != vswitch.Passed {
			if len(out) > 0 {
				t.Fatalf("dropped (%s) and sent to %d ports", drop, len(out))
			}
			return
		}
		vlan, bare := untagged[in], second
		if binary.BigEndian.Uint16(second[12:]) == 0x8100 {
			vlan, bare = binary.BigEndian.Uint16(second[14:])&0xfff, slices.Concat(second[:12], second[16:])
			if !slices.Contains(tagged[in], vlan) {
				t.Fatalf("VLAN %d came in by port %d", vlan, in)
			}
		}
		if vlan == 0 {
			t.Fatal("a frame of no VLAN was passed on")
		}
		last := -1
		for _, o := range out {
			if o.Port == in || o.Port <= last {
				t.Fatalf("leaves by port %d after %d, came by %d", o.Port, last, in)
			}
			last = o.Port
			form := bare
			if slices.Contains(tagged[o.Port], vlan) {
				form = slices.Concat(bare[:12], []byte{0x81, 0, byte(vlan >> 8), byte(vlan)}, bare[12:])
			} else if untagged[o.Port] != vlan {
				t.Fatalf("VLAN %d leaves by port %d", vlan, o.Port)
			}
			if !bytes.Equal(form, o.Frame) {
				t.Fatalf("by port %d leaves %x, want %x", o.Port, o.Frame, form)
			}
		}
	})
}

// BenchmarkForward passes a frame of 1,514 bytes from an access port to the trunk.
func BenchmarkForward(b *testing.B) {
	sw := office(b)
	sw.Forward(trunk, frame(ann, bob, q(10)), start)
	f := append(frame(bob, ann), make([]byte, 1490)...)
	b.SetBytes(int64(len(f)))
	for b.Loop() {
		sw.Forward(ten, f, start)
	}
}
