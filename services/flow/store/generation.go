package store

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/services/flow/record"
)

// A generation is closed and becomes segments, one for each day, when it has this many
// rows, shapes or bytes of their strings. What shapes cost bounds the memory in a flood
// of packets with invented addresses.
const (
	maxRows   = 1 << 15
	maxShapes = 16000
	maxText   = 2 << 20
	maxString = 255
)

// generation is records in memory, and in one write-ahead file, that become segments of
// the same number. Rows and shapes are only ever appended to, so that a prefix of them
// can be read without a lock.
type generation struct {
	seq    uint64
	day    string // when it began
	rows   []row
	shapes []record.Record
	index  map[uint64]uint32 // shapes by hash: see find
	seed   maphash.Seed
	text   int
	first  int64 // milliseconds: the earliest end, and the last
	last   int64

	// Of the writer alone:
	wal     *wal     // nil before the first batch, and after trouble
	logged  int      // rows that are in it
	hasWAL  bool     // there is, or may be, a file to be removed
	damaged bool     // that file is to be set aside instead
	done    []string // days whose segment is written already
}

func newGeneration(seq uint64, day string) *generation {
	return &generation{seq: seq, day: day, index: make(map[uint64]uint32), seed: maphash.MakeSeed()}
}

// add adds a record, which find has put in the store's form.
func (g *generation) add(shape *record.Record, r row) {
	r.shape = g.find(shape)
	g.rows = append(g.rows, r)
	g.span(r.start + r.duration)
}

func (g *generation) span(end int64) {
	if len(g.rows) == 1 {
		g.first, g.last = end, end
	}
	g.first, g.last = min(g.first, end), max(g.last, end)
}

// find returns the number of a shape, which it adds if it is new. Shapes whose hashes
// are the same stand under the next numbers that are free.
func (g *generation) find(shape *record.Record) uint32 {
	for h := maphash.Comparable(g.seed, *shape); ; h++ {
		id, ok := g.index[h]
		if !ok {
			id = uint32(len(g.shapes))
			g.index[h] = id
			g.shapes = append(g.shapes, *shape)
			g.text += len(shape.Name) + len(shape.Rule) + len(shape.Reason) + len(shape.App) +
				len(shape.Src.Device) + len(shape.Dst.Device) + len(shape.Src.Zone) + len(shape.Dst.Zone)
			return id
		}
		if g.shapes[id] == *shape {
			return id
		}
	}
}

func (g *generation) full(rows int) bool {
	return len(g.rows) >= rows || len(g.shapes) >= maxShapes || g.text >= maxText
}

// split takes a record apart. What the files cannot say is made what they can: times are
// cut to milliseconds, texts to 255 bytes, and addresses lose their zones.
func split(r *record.Record) (record.Record, row) {
	s := *r
	w := row{
		srcPort: r.Src.Port, natPort: r.NATSrc.Port(),
		start:      r.Start.UnixMilli(),
		outPackets: r.Out.Packets, outBytes: r.Out.Bytes, inPackets: r.In.Packets, inBytes: r.In.Bytes,
	}
	w.duration, w.age = r.End.UnixMilli()-w.start, w.start-r.Began.UnixMilli()
	s.Start, s.End, s.Began = time.Time{}, time.Time{}, time.Time{}
	s.Src.Port = 0
	s.Out, s.In = record.Count{}, record.Count{}
	for _, text := range []*string{&s.Src.Zone, &s.Src.Device, &s.Dst.Zone, &s.Dst.Device, &s.Rule, &s.Reason, &s.Name, &s.App} {
		*text = cut(*text)
	}
	s.Src.Addr, s.Dst.Addr = s.Src.Addr.WithZone(""), s.Dst.Addr.WithZone("")
	s.NATSrc = netip.AddrPortFrom(s.NATSrc.Addr().WithZone(""), 0)
	if !s.NATSrc.IsValid() {
		w.natPort = w.srcPort
	}
	s.NATDst = netip.AddrPortFrom(s.NATDst.Addr().WithZone(""), s.NATDst.Port())
	if !s.NATDst.IsValid() {
		s.NATDst = netip.AddrPort{}
	}
	return s, w
}

func cut(s string) string {
	if len(s) > maxString {
		s = s[:maxString]
	}
	return strings.ToValidUTF8(s, "?") // Parquet's strings are UTF-8
}

// join undoes split.
func (w *row) join(shape *record.Record) record.Record {
	r := *shape
	r.Start = time.UnixMilli(w.start).UTC()
	r.End = time.UnixMilli(w.start + w.duration).UTC()
	r.Began = time.UnixMilli(w.start - w.age).UTC()
	r.Src.Port = w.srcPort
	if r.NATSrc.IsValid() {
		r.NATSrc = netip.AddrPortFrom(r.NATSrc.Addr(), w.natPort)
	}
	r.Out, r.In = record.Count{Packets: w.outPackets, Bytes: w.outBytes}, record.Count{Packets: w.inPackets, Bytes: w.inBytes}
	return r
}

// compareShapes orders shapes so that those of one device are together, and in them
// those of one destination.
func compareShapes(a, b *record.Record) int {
	return cmp.Or(
		compareSides(&a.Src, &b.Src), compareSides(&a.Dst, &b.Dst),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Proto, b.Proto),
		cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.Ended, b.Ended),
		cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.App, b.App),
		a.NATSrc.Compare(b.NATSrc), a.NATDst.Compare(b.NATDst))
}

func compareSides(a, b *record.Side) int {
	return cmp.Or(
		cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Device, b.Device),
		slices.Compare(a.MAC[:], b.MAC[:]), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
}

// sorted returns the numbers of rows in the order that segments have: by shape, and by
// end in it.
func sorted(rows []row, shapes []record.Record) []int32 {
	byShape := make([]uint32, len(shapes))
	for i := range byShape {
		byShape[i] = uint32(i)
	}
	slices.SortFunc(byShape, func(a, b uint32) int { return compareShapes(&shapes[a], &shapes[b]) })
	rank := make([]uint32, len(shapes))
	for i, id := range byShape {
		rank[id] = uint32(i)
	}
	order := make([]int32, len(rows))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &rows[i], &rows[j]
		return cmp.Or(cmp.Compare(rank[a.shape], rank[b.shape]), cmp.Compare(a.start+a.duration, b.start+b.duration), cmp.Compare(i, j))
	})
	return order
}
