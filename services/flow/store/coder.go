package store

import "math/bits"

// A range coder turns decisions into almost as many bits as they carry information, by
// what was decided before in the same context; what it has learnt is kept from batch to
// batch. The write-ahead file needs it because batches are small: a general compressor
// spends on each of them what it then saves.
//
// The arithmetic is that of G. N. N. Martin, "Range encoding: an algorithm for removing
// redundancy from a digitised message" (1979), with the carry held back in the way of
// the LZMA SDK.

// chance is what is believed of the next decision in one context.
type chance struct {
	zero uint16 // how probable it is that the next one is 0, of 1<<16; never 0
	seen uint16 // how often this was decided, up to the length of pace
}

// pace is how much a decision changes the belief, of 1<<16: much at first.
var pace = func() (p [48]int32) {
	for i := range p {
		p[i] = int32((1 << 16) * 2 / (2*i + 3))
	}
	return p
}()

const (
	even    = 1 << 15
	surest  = 1 << 5 // nothing is ever certain
	topBits = 24
)

func (c *chance) learn(bit uint32) {
	if c.zero == 0 {
		c.zero = even
	}
	p, rate := int32(c.zero), pace[c.seen]
	if bit == 0 {
		p += int32(int64(1<<16-p) * int64(rate) >> 16)
	} else {
		p -= int32(int64(p) * int64(rate) >> 16)
	}
	c.zero = uint16(min(max(p, surest), 1<<16-surest))
	if int(c.seen) < len(pace)-1 {
		c.seen++
	}
}

func (c *chance) bound(width uint32) uint32 {
	p := uint32(c.zero)
	if p == 0 {
		p = even
	}
	return uint32(uint64(width) * uint64(p) >> 16)
}

// coder does one decision: an encoder is told it and returns it, a decoder finds out.
// Both directions run through the same code, which therefore cannot disagree.
type coder interface {
	bit(c *chance, bit uint32) uint32
	flat(n int, v uint64) uint64 // n bits that nothing is known of
}

type encoder struct {
	out   []byte
	low   uint64
	width uint32
	held  byte // not yet written, as a carry may come
	full  int  // how many bytes 0xff follow held
	begun bool
}

func newEncoder(out []byte) *encoder { return &encoder{out: out, width: 1<<32 - 1} }

func (e *encoder) bit(c *chance, bit uint32) uint32 {
	b := c.bound(e.width)
	if bit == 0 {
		e.width = b
	} else {
		e.low += uint64(b)
		e.width -= b
	}
	c.learn(bit)
	e.normalise()
	return bit
}

func (e *encoder) flat(n int, v uint64) uint64 {
	for i := n - 1; i >= 0; i-- {
		e.width >>= 1
		if v>>i&1 != 0 {
			e.low += uint64(e.width)
		}
		e.normalise()
	}
	return v
}

func (e *encoder) normalise() {
	for e.width < 1<<topBits {
		e.width <<= 8
		e.shift()
	}
}

func (e *encoder) shift() {
	if carry := byte(e.low >> 32); e.low < 0xff<<24 || carry != 0 {
		if e.begun {
			e.out = append(e.out, e.held+carry)
		}
		for ; e.full > 0; e.full-- {
			e.out = append(e.out, 0xff+carry)
		}
		e.held, e.begun = byte(e.low>>24), true
	} else {
		e.full++
	}
	e.low = e.low & (1<<24 - 1) << 8
}

// finish returns the bytes. A decoder reads zeros behind them, so of all numbers that
// mean the same it takes one that ends in zeros, and leaves them out.
func (e *encoder) finish(begin int) []byte {
	for n := 32; n > 0; n-- {
		mask := uint64(1)<<n - 1
		if v := (e.low + mask) &^ mask; v < e.low+uint64(e.width) {
			e.low = v
			break
		}
	}
	for range 5 {
		e.shift()
	}
	for len(e.out) > begin && e.out[len(e.out)-1] == 0 {
		e.out = e.out[:len(e.out)-1]
	}
	return e.out
}

type decoder struct {
	in    []byte
	next  int // may be behind the end
	code  uint32
	width uint32
}

func newDecoder(in []byte) *decoder {
	d := &decoder{in: in, width: 1<<32 - 1}
	for range 4 {
		d.code = d.code<<8 | d.read()
	}
	return d
}

func (d *decoder) read() (b uint32) {
	if d.next < len(d.in) {
		b = uint32(d.in[d.next])
	}
	d.next++
	return b
}

// overrun reports whether more was read than an encoder can have left out.
func (d *decoder) overrun() bool { return d.next > len(d.in)+8 }

func (d *decoder) bit(c *chance, _ uint32) (bit uint32) {
	if b := c.bound(d.width); d.code < b {
		d.width = b
	} else {
		d.code -= b
		d.width -= b
		bit = 1
	}
	c.learn(bit)
	d.normalise()
	return bit
}

func (d *decoder) flat(n int, _ uint64) (v uint64) {
	for range n {
		d.width >>= 1
		v <<= 1
		if d.code >= d.width {
			d.code -= d.width
			v |= 1
		}
		d.normalise()
	}
	return v
}

func (d *decoder) normalise() {
	for d.width < 1<<topBits {
		d.width <<= 8
		d.code = d.code<<8 | d.read()
	}
}

// tree is what is believed of numbers below 1<<n, most significant bit first.
type tree []chance

func newTree(n int) tree { return make(tree, 1<<n) }

func (t tree) code(c coder, v uint32) uint32 {
	at := uint32(1)
	for i := bits.Len(uint(len(t))) - 2; i >= 0; i-- {
		at = at<<1 | c.bit(&t[at], v>>i&1)
	}
	return at - uint32(len(t))
}

// index is what is believed of numbers below 1<<16 that are mostly small: a tree of which
// there is only what was needed.
type index struct {
	high tree
	low  [256]tree
}

func (x *index) code(c coder, v uint32) uint32 {
	if x.high == nil {
		x.high = newTree(8)
	}
	high := x.high.code(c, v>>8)
	if x.low[high] == nil {
		x.low[high] = newTree(8)
	}
	return high<<8 | x.low[high].code(c, v&0xff)
}

// amount is what is believed of numbers whose order of magnitude says most of them.
type amount struct {
	length [128]chance   // how many bits they have: a tree
	leads  [24][8]chance // of the bits behind the first, the next three: trees
}

func (a *amount) code(c coder, v uint64) uint64 {
	n := int(tree(a.length[:]).code(c, uint32(bits.Len64(v))))
	if n < 2 || n > 64 {
		return uint64(min(n, 1)) // a number longer than 64 bits is not one: the batch ends soon
	}
	rest := n - 1
	lead := min(rest, 3)
	t := a.leads[min(n, len(a.leads)-1)][:1<<lead]
	head := uint64(tree(t).code(c, uint32(v>>(rest-lead)&(1<<lead-1))))
	return (1<<lead|head)<<(rest-lead) | c.flat(rest-lead, v&(1<<(rest-lead)-1))
}

// signed folds negative numbers between the positive ones; unsigned undoes it.
func signed(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unsigned(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
