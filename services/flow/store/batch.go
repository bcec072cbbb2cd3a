package store

import (
	"errors"
	"math/bits"
	"net/netip"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// row is what sets a record apart from others of its shape. Times are in milliseconds.
type row struct {
	shape      uint32
	srcPort    uint16
	natPort    uint16 // of NATSrc
	start      int64
	duration   int64
	age        int64 // of the connection at start
	outPackets uint64
	outBytes   uint64
	inPackets  uint64
	inBytes    uint64
}

// batches is what batches of rows in a write-ahead file teach about those that follow.
// The same code writes and reads them: see [coder].
type batches struct {
	c      coder
	shapes []record.Record // that were read
	known  []known         // by shape, read or written
	rows   int
	text   int   // bytes of strings in shapes
	end    int64 // of the last row

	shape    index
	endDelta amount
	port     [kinds]tree      // high byte
	same     [kinds][2]chance // ports as before, as the source's
	amounts  map[spot]*amount
	fields   [fields]*words
}

type known struct {
	port uint16 // of the last row's source
	kind uint8
}

const kinds = 16

// spot is where an amount stands: the same field of the same kind of connection, with
// another amount of a like size before it.
type spot struct{ field, kind, size uint8 }

const (
	inDuration = iota
	inAge
	inOutPackets
	inOutBytes
	inInPackets
	inInBytes
	inPort
	inSmall
)

// Fields of a shape that have words of their own.
const (
	ofZone = iota
	ofDevice
	ofMAC
	ofAddr
	ofRule
	ofReason
	ofName
	ofApp
	fields
)

func newBatches() *batches {
	b := &batches{amounts: make(map[spot]*amount)}
	for i := range b.fields {
		b.fields[i] = &words{index: map[string]uint32{"": 0}, list: []string{""}}
	}
	return b
}

var (
	errTooMuch = errors.New("more than a file may hold")
	errNothing = errors.New("no such shape")
)

// append writes a batch of rows behind out.
func (b *batches) append(out []byte, rows []row, shapes []record.Record) ([]byte, error) {
	e := newEncoder(out)
	b.c = e
	b.amount(inSmall, 0, 0, uint64(len(rows)))
	for _, r := range rows { // copies: others may be reading them
		if err := b.row(&r, &shapes[r.shape]); err != nil {
			return nil, err
		}
	}
	return e.finish(len(out)), nil
}

// read hands a batch's rows to yield. The shapes are in b.
func (b *batches) read(in []byte, yield func(row)) error {
	d := newDecoder(in)
	b.c = d
	n := b.amount(inSmall, 0, 0, 0)
	if n > maxRows {
		return errTooMuch
	}
	for range n {
		var r row
		if err := b.row(&r, nil); err != nil {
			return err
		}
		if d.overrun() {
			return errTooMuch
		}
		yield(r)
	}
	return nil
}

// row does one row; of a new shape it is told what it is, or finds out.
func (b *batches) row(r *row, shape *record.Record) error {
	next := uint32(len(b.known))
	id := b.shape.code(b.c, min(r.shape, next))
	if id > next || id == next && (next >= maxShapes || b.text > maxText) || b.rows >= maxRows {
		return errTooMuch
	}
	if id == next {
		if err := b.meet(shape); err != nil {
			return err
		}
	}
	r.shape = id
	b.rows++
	k := &b.known[id]
	kind := k.kind
	end := r.start + r.duration
	end = b.end + unsigned(b.endDelta.code(b.c, signed(end-b.end)))
	b.end = end
	r.duration = unsigned(b.amount(inDuration, kind, 0, signed(r.duration)))
	r.start = end - r.duration
	r.age = unsigned(b.amount(inAge, kind, 0, signed(r.age)))

	r.srcPort = b.portLike(r.srcPort, k.port, kind, 0)
	k.port = r.srcPort
	r.natPort = b.portLike(r.natPort, r.srcPort, kind, 1)

	r.outPackets = b.amount(inOutPackets, kind, 0, r.outPackets)
	r.outBytes = b.amount(inOutBytes, kind, size(r.outPackets), r.outBytes)
	r.inPackets = b.amount(inInPackets, kind, size(r.outPackets), r.inPackets)
	r.inBytes = b.amount(inInBytes, kind, size(r.inPackets), r.inBytes)
	return nil
}

// meet does a shape that is new.
func (b *batches) meet(shape *record.Record) error {
	var s record.Record
	if shape != nil {
		s = *shape
	}
	if err := b.record(&s); err != nil {
		return err
	}
	if shape == nil {
		b.shapes = append(b.shapes, s)
	}
	b.known = append(b.known, known{kind: kindOf(&s)})
	return nil
}

// kindOf sorts connections into few kinds that have sizes and times of their own.
func kindOf(s *record.Record) uint8 {
	return uint8((uint32(s.Proto)*7+uint32(s.Dst.Port)*31+uint32(s.Verdict)*101)*0x9e3779b1>>28) % kinds
}

func size(v uint64) uint8 { return uint8(min(bits.Len64(v), 15)) }

func (b *batches) amount(field, kind, size uint8, v uint64) uint64 {
	at := spot{field, kind, size}
	a := b.amounts[at]
	if a == nil {
		a = new(amount)
		b.amounts[at] = a
	}
	return a.code(b.c, v)
}

// portLike does a port that may be as another one.
func (b *batches) portLike(port, other uint16, kind, which uint8) uint16 {
	var differs uint32
	if port != other {
		differs = 1
	}
	if b.c.bit(&b.same[kind][which], differs) == 0 {
		return other
	}
	if b.port[kind] == nil {
		b.port[kind] = newTree(8)
	}
	high := b.port[kind].code(b.c, uint32(port>>8))
	return uint16(high<<8) | uint16(b.c.flat(8, uint64(port&0xff)))
}

// record does a shape.
func (b *batches) record(s *record.Record) error {
	small := func(field uint8, v uint64) uint64 { return b.amount(inSmall, field, 0, v) }
	s.Proto = uint8(small(1, uint64(s.Proto)))
	s.Verdict = record.Verdict(small(2, uint64(s.Verdict)))
	s.Ended = record.End(small(3, uint64(s.Ended)))
	s.Dst.Port = uint16(b.amount(inPort, 0, 0, uint64(s.Dst.Port)))
	err := errors.Join(b.side(&s.Src), b.side(&s.Dst))
	var nat [2]netip.Addr
	nat[0], nat[1] = s.NATSrc.Addr(), s.NATDst.Addr()
	err = errors.Join(err, b.addr(&nat[0]), b.addr(&nat[1]))
	s.NATSrc = netip.AddrPortFrom(nat[0], 0)
	s.NATDst = netip.AddrPortFrom(nat[1], uint16(b.amount(inPort, 1, 0, uint64(s.NATDst.Port()))))
	return errors.Join(err, b.word(ofRule, &s.Rule), b.word(ofReason, &s.Reason), b.word(ofName, &s.Name), b.word(ofApp, &s.App))
}

func (b *batches) side(s *record.Side) error {
	mac := ""
	if !s.MAC.IsZero() {
		mac = string(s.MAC[:])
	}
	err := errors.Join(b.word(ofZone, &s.Zone), b.word(ofDevice, &s.Device), b.word(ofMAC, &mac), b.addr(&s.Addr))
	s.MAC = model.MAC{}
	copy(s.MAC[:], mac)
	return err
}

func (b *batches) addr(a *netip.Addr) error {
	text := string(a.AsSlice())
	if err := b.word(ofAddr, &text); err != nil {
		return err
	}
	*a, _ = netip.AddrFromSlice([]byte(text))
	return nil
}

func (b *batches) word(field int, s *string) error {
	w := b.fields[field]
	before := len(w.list)
	if err := w.code(b.c, s); err != nil {
		return err
	}
	if len(w.list) > before {
		b.text += len(*s)
	}
	return nil
}

// words are the strings that a field has had.
type words struct {
	index  map[string]uint32
	list   []string
	which  index
	length amount
	letter [256]tree // by the letter before
}

func (w *words) code(c coder, s *string) error {
	id, ok := w.index[*s]
	if !ok {
		id = uint32(len(w.list))
	}
	id = w.which.code(c, id)
	switch {
	case id < uint32(len(w.list)):
		*s = w.list[id]
		return nil
	case id > uint32(len(w.list)) || len(w.list) >= 1<<16-1:
		return errNothing
	}
	n := int(w.length.code(c, uint64(len(*s))))
	if n > maxString {
		return errTooMuch
	}
	text := make([]byte, n)
	copy(text, *s)
	var before byte
	for i := range text {
		if w.letter[before] == nil {
			w.letter[before] = newTree(8)
		}
		text[i] = byte(w.letter[before].code(c, uint32(text[i])))
		before = text[i]
	}
	*s = string(text)
	w.index[*s] = id
	w.list = append(w.list, *s)
	return nil
}
