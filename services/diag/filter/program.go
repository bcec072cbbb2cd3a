package filter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Types of Ethernet frames, and where things are in them, in bytes. RFC 791, RFC 826.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	offTo       = 0
	offFrom     = 6
	offType     = 12
	offIP       = 14
	offFragment = offIP + 6
	offProtocol = offIP + 9
	offSource   = offIP + 12
	offDest     = offIP + 16
	offSender   = 14 + 14 // of ARP
	offTarget   = 14 + 24

	fragmentBits = 0x1fff // offset of the fragment
)

// Program returns a classic BPF program that sees frames from the Ethernet header on. It
// takes the first snap bytes of a frame that e wants, and 0 of others. As tcpdump's
// programs do, it takes no frame that is too short for a test that it comes to.
func Program(e Expr, snap uint32) []bpf.Instruction {
	var a assembly
	yes, no := a.label(), a.label()
	if e != nil {
		e.emit(&a, yes, no)
	}
	a.place(yes)
	a.code = append(a.code, bpf.RetConstant{Val: snap})
	a.place(no)
	a.code = append(a.code, bpf.RetConstant{Val: 0})
	return a.resolved()
}

// assembly is a program in the making.
type assembly struct {
	code   []bpf.Instruction
	jumps  map[int]label // by place: those whose target is not known yet
	places []int         // by label
}

// label is a place in the program.
type label int

func (a *assembly) label() label {
	a.places = append(a.places, 0)
	return label(len(a.places) - 1)
}

func (a *assembly) place(l label) { a.places[l] = len(a.code) }

// jump goes anywhere, where those of a [test] have 8 bits.
func (a *assembly) jump(l label) {
	if a.jumps == nil {
		a.jumps = map[int]label{}
	}
	a.jumps[len(a.code)] = l
	a.code = append(a.code, bpf.Jump{})
}

func (a *assembly) resolved() []bpf.Instruction {
	for at, l := range a.jumps {
		a.code[at] = bpf.Jump{Skip: uint32(a.places[l] - at - 1)}
	}
	return a.code
}

func (e allOf) emit(a *assembly, yes, no label) {
	for _, x := range e[:len(e)-1] {
		next := a.label()
		x.emit(a, next, no)
		a.place(next)
	}
	e[len(e)-1].emit(a, yes, no)
}

func (e anyOf) emit(a *assembly, yes, no label) {
	for _, x := range e[:len(e)-1] {
		next := a.label()
		x.emit(a, yes, next)
		a.place(next)
	}
	e[len(e)-1].emit(a, yes, no)
}

func (e not) emit(a *assembly, yes, no label) { e.e.emit(a, no, yes) }

// test writes the instructions of one test.
type test struct {
	code  []bpf.Instruction
	jumps []branch
	other int // where the second half begins
}

// branch is where a conditional jump goes.
type branch struct {
	at   int
	t, f target
}

// target is where a test goes on.
type target int

const (
	next  target = iota
	other        // the second half
	pass
	fail
)

func (t *test) load(off uint32, size int) {
	t.code = append(t.code, bpf.LoadAbsolute{Off: off, Size: size})
}

// is compares what is loaded.
func (t *test) is(v uint32, then, otherwise target) {
	t.branch(bpf.JumpEqual, v, then, otherwise)
}

func (t *test) branch(cond bpf.JumpTest, v uint32, then, otherwise target) {
	t.jumps = append(t.jumps, branch{len(t.code), then, otherwise})
	t.code = append(t.code, bpf.JumpIf{Cond: cond, Val: v})
}

// add puts the test into the program.
func (a *assembly) add(t *test, yes, no label) {
	for _, b := range t.jumps {
		skip := func(to target) uint8 {
			at := [...]int{next: b.at + 1, other: t.other, pass: len(t.code), fail: len(t.code) + 1}[to]
			return uint8(at - b.at - 1)
		}
		j := t.code[b.at].(bpf.JumpIf)
		j.SkipTrue, j.SkipFalse = skip(b.t), skip(b.f)
		t.code[b.at] = j
	}
	a.code = append(a.code, t.code...)
	a.jump(yes)
	a.jump(no)
}

func (e protocol) emit(a *assembly, yes, no label) {
	var t test
	t.load(offType, 2)
	if e.ip == 0 {
		t.is(uint32(e.ether), pass, fail)
	} else {
		t.is(uint32(e.ether), next, fail)
		t.load(offProtocol, 1)
		t.is(uint32(e.ip), pass, fail)
	}
	a.add(&t, yes, no)
}

func (e host) emit(a *assembly, yes, no label)    { within(a, e.Prefix, yes, no) }
func (e network) emit(a *assembly, yes, no label) { within(a, e.Prefix, yes, no) }

// within looks for addresses of a network.
func within(a *assembly, p netip.Prefix, yes, no label) {
	b := p.Addr().As4()
	want := binary.BigEndian.Uint32(b[:])
	mask := uint32(uint64(1)<<32 - uint64(1)<<(32-p.Bits()))
	var t test
	either := func(one, two uint32) {
		for _, look := range []struct {
			off       uint32
			otherwise target
		}{{one, next}, {two, fail}} {
			t.load(look.off, 4)
			if p.Bits() < 32 {
				t.code = append(t.code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
			}
			t.is(want, pass, look.otherwise)
		}
	}
	t.load(offType, 2)
	t.is(etherIPv4, next, other)
	either(offSource, offDest)
	t.other = len(t.code)
	t.is(etherARP, next, fail)
	either(offSender, offTarget)
	a.add(&t, yes, no)
}

func (e port) emit(a *assembly, yes, no label) {
	var t test
	t.load(offType, 2)
	t.is(etherIPv4, next, fail)
	t.load(offProtocol, 1)
	t.is(6, other, next)
	t.is(17, other, fail)
	t.other = len(t.code)
	t.load(offFragment, 2)
	t.branch(bpf.JumpBitsSet, fragmentBits, fail, next)
	t.code = append(t.code, bpf.LoadMemShift{Off: offIP}, bpf.LoadIndirect{Off: offIP, Size: 2})
	t.is(uint32(e), pass, next)
	t.code = append(t.code, bpf.LoadIndirect{Off: offIP + 2, Size: 2})
	t.is(uint32(e), pass, fail)
	a.add(&t, yes, no)
}

func (e mac) emit(a *assembly, yes, no label) {
	high, low := uint32(binary.BigEndian.Uint16(e[:2])), binary.BigEndian.Uint32(e[2:])
	var t test
	t.load(offTo, 2)
	t.is(high, next, other)
	t.load(offTo+2, 4)
	t.is(low, pass, other)
	t.other = len(t.code)
	t.load(offFrom, 2)
	t.is(high, next, fail)
	t.load(offFrom+2, 4)
	t.is(low, pass, fail)
	a.add(&t, yes, no)
}
