package ipfix_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/export/ipfix"
	"bulkhead/services/flow/record"
)

var (
	noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	tv   = record.Side{
		Zone: "iot", Device: "tv", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12},
		Addr: netip.MustParseAddr("192.168.40.100"), Port: 40000,
	}
	films = record.Record{
		Start: noon.Add(-time.Minute), End: noon.Add(-time.Second + 7*time.Millisecond), Began: noon.Add(-time.Minute), Src: tv,
		Dst:   record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.9"), Port: 443},
		Proto: model.ProtoTCP, Out: record.Count{Packets: 5, Bytes: 900}, In: record.Count{Packets: 7, Bytes: 9_000_000_000},
		NATSrc: netip.MustParseAddrPort("203.0.113.2:61000"), Verdict: record.Allowed, Rule: "browsing", Ended: record.Finished,
	}
)

// mix is one record of each shape, and of each of the other cases.
func mix() []record.Record {
	forward := films
	forward.Src, forward.Dst, forward.NATSrc = films.Dst, tv, netip.AddrPort{}
	forward.Src.Port, forward.Dst.Port = 50123, 8096
	forward.NATDst = netip.MustParseAddrPort("203.0.113.2:80")
	inside := films
	inside.Dst = record.Side{Zone: "storage", Addr: netip.MustParseAddr("192.168.30.10"), Port: 2049}
	inside.NATSrc, inside.Ended = netip.AddrPort{}, record.Continues
	ping := inside
	ping.Src.Port, ping.Dst.Port, ping.Proto, ping.Ended = 0, 8, model.ProtoICMP, record.Unknown
	refused := inside
	refused.Src.Port, refused.Dst.Port = 0, 445
	refused.Verdict, refused.In, refused.Ended, refused.Rule = record.Refused, record.Count{}, record.Unknown, ""
	private := refused
	private.Src, private.Dst = record.Side{Zone: "guest"}, record.Side{Zone: "storage", Port: 445}
	six := films
	six.NATSrc = netip.AddrPort{}
	six.Src.Addr, six.Dst.Addr = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	return []record.Record{films, forward, inside, ping, refused, private, six}
}

// collector reads messages as far as the tests need it: what is sent by IPFIX is for
// others to read.
type collector struct {
	t         *testing.T
	templates map[uint16][]spec
	records   []map[string]uint64
	next      uint32
}

type spec struct {
	id   string
	size int
}

func (c *collector) read(msg []byte) {
	c.t.Helper()
	be := binary.BigEndian
	if len(msg) > ipfix.MaxMessage || be.Uint16(msg) != 10 || int(be.Uint16(msg[2:])) != len(msg) || be.Uint32(msg[4:]) != uint32(noon.Unix()) {
		c.t.Fatalf("header % x of %d bytes", msg[:16], len(msg))
	}
	if got := be.Uint32(msg[8:]); got != c.next {
		c.t.Errorf("sequence %d, want %d", got, c.next)
	}
	for sets := msg[16:]; len(sets) > 0; {
		id, size := be.Uint16(sets), int(be.Uint16(sets[2:]))
		body := sets[4:size]
		sets = sets[size:]
		for len(body) > 0 {
			switch {
			case id == 2 || id == 3:
				body = c.template(id, body)
			default:
				body = c.data(id, body)
				c.next++
			}
		}
	}
}

func (c *collector) template(set uint16, b []byte) []byte {
	be := binary.BigEndian
	id, n := be.Uint16(b), int(be.Uint16(b[2:]))
	b = b[4:]
	if set == 3 {
		b = b[2:] // how many are scopes
	}
	var fields []spec
	for range n {
		name, size := be.Uint16(b), int(be.Uint16(b[2:]))
		b = b[4:]
		s := spec{fmt.Sprint(name), size}
		if name&0x8000 != 0 {
			s.id = fmt.Sprint(be.Uint32(b), "/", name&0x7fff)
			b = b[4:]
		}
		fields = append(fields, s)
	}
	c.templates[id] = fields
	return b
}

func (c *collector) data(id uint16, b []byte) []byte {
	c.t.Helper()
	fields, ok := c.templates[id]
	if !ok {
		c.t.Fatalf("data of unknown template %d", id)
	}
	r := map[string]uint64{"template": uint64(id)}
	for _, f := range fields {
		size := f.size
		if size == 0xffff {
			size, b = int(b[0]), b[1:]
		}
		for _, x := range b[:size] { // of longer ones the end
			r[f.id] = r[f.id]<<8 | uint64(x)
		}
		b = b[size:]
	}
	c.records = append(c.records, r)
	return b
}

func number(a string) uint64 {
	b := netip.MustParseAddr(a).As4()
	return uint64(binary.BigEndian.Uint32(b[:]))
}

func TestRecordsAreReadByTheirTemplates(t *testing.T) {
	e := ipfix.New("internet", "iot", "storage")
	c := &collector{t: t, templates: map[uint16][]spec{}}
	for _, m := range slices.Concat(e.Templates(noon), e.Flows(noon, mix()), e.Templates(noon)) {
		c.read(m)
	}
	flows := slices.DeleteFunc(c.records, func(r map[string]uint64) bool { return r["82"] != 0 })
	if len(flows) != len(mix()) {
		t.Fatalf("got %d records, want %d", len(flows), len(mix()))
	}
	type m = map[string]uint64
	for i, want := range []m{
		{"8": number("192.168.40.100"), "7": 40000, "12": number("203.0.113.9"), "11": 443, "225": number("203.0.113.2"), "227": 61000,
			"226": number("203.0.113.9"), "228": 443, "230": 5, "233": 2, "136": 3, "4": 6, "1": 900, "2": 5, "29305/1": 9_000_000_000, "29305/2": 7,
			"152": uint64(films.Start.UnixMilli()), "153": uint64(films.End.UnixMilli()), "10": 2, "14": 1, "56": 0x525400400012},
		{"8": number("203.0.113.9"), "7": 50123, "12": number("203.0.113.2"), "11": 80, "225": number("203.0.113.9"), "227": 50123,
			"226": number("192.168.40.100"), "228": 8096},
		{"136": 2, "233": 5, "230": 0, "10": 2, "14": 3},
		{"4": 1, "32": 8 << 8, "136": 1, "7": 0},
		{"233": 3, "136": 2, "29305/1": 0, "11": 445},
		{"8": 0, "10": 4, "11": 445, "233": 3},
		{"27": 1, "28": 2, "8": 0}, // the last eight bytes of the addresses
	} {
		for id, v := range want {
			if flows[i][id] != v {
				t.Errorf("record %d: element %s is %d, want %d", i, id, flows[i][id], v)
			}
		}
	}
	if _, has := flows[4]["225"]; has {
		t.Error("a record that was not translated has translated addresses")
	}
}

func TestMessagesFitIntoDatagrams(t *testing.T) {
	e := ipfix.New()
	c := &collector{t: t, templates: map[uint16][]spec{}}
	for _, m := range e.Templates(noon) {
		c.read(m)
	}
	var many []record.Record
	for range 1000 {
		many = append(many, mix()...)
	}
	messages := e.Flows(noon, many)
	for _, m := range messages {
		c.read(m)
	}
	if len(c.records) != len(many) {
		t.Errorf("got %d records of %d", len(c.records), len(many))
	}
	if len(messages) > len(many)/10 {
		t.Errorf("%d messages for %d records", len(messages), len(many))
	}
}

// FuzzFlows holds that whatever a record says, what is sent can be read.
func FuzzFlows(f *testing.F) {
	a, b := []byte{192, 168, 40, 100}, []byte{203, 0, 113, 9}
	f.Add(a, b, b, uint16(443), uint8(6), int64(0), "iot")
	f.Add(a, make([]byte, 16), []byte{}, uint16(8), uint8(1), int64(-1), "")
	f.Fuzz(func(t *testing.T, src, dst, nat []byte, port uint16, proto uint8, start int64, zone string) {
		r := films
		r.Src.Addr, _ = netip.AddrFromSlice(src)
		r.Dst.Addr, _ = netip.AddrFromSlice(dst)
		if a, ok := netip.AddrFromSlice(nat); ok {
			r.NATDst = netip.AddrPortFrom(a, port)
		}
		r.Src.Zone, r.Dst.Port, r.Proto, r.Start = zone, port, proto, time.UnixMilli(start)
		e := ipfix.New()
		c := &collector{t: t, templates: map[uint16][]spec{}}
		for _, m := range slices.Concat(e.Templates(noon), e.Flows(noon, []record.Record{r, films}), e.Templates(noon)) {
			c.read(m)
		}
	})
}
