package dhcp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"bulkhead/netcfg/svcconf"
)

// BenchmarkHandleDORA is a client's way from discovering to having an address, without
// socket and disk, in a zone of 50,000 clients.
func BenchmarkHandleDORA(b *testing.B) {
	const clients = 50_000
	conf := testConf()
	z := &conf.Zones[0]
	z.Address, z.First, z.Last = netip.MustParsePrefix("10.0.0.1/8"), addr("10.1.0.0"), addr("10.2.0.0")
	z.Router, z.Reservations, z.Lease = addr("10.0.0.1"), nil, svcconf.Duration(time.Hour)
	c := newCore(b, conf)
	d := packet(b, 0, discover)
	r := packet(b, 0, request, wanted("10.1.0.0"), server("10.0.0.1"))
	at := len(r) - len("\x32\x04\x0a\x01\x00\x00\xff")
	for i := range r {
		if string(r[i:min(i+6, len(r))]) == "\x32\x04\x0a\x01\x00\x00" {
			at = i + 2
		}
	}
	buf := make([]byte, 0, maxReply)
	now := start
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		now = now.Add(time.Millisecond)
		binary.BigEndian.PutUint32(d[30:], uint32(n%clients))
		binary.BigEndian.PutUint32(r[30:], uint32(n%clients))
		res := c.handle(now, iot, d, buf)
		copy(r[at:], res.reply.data[16:20])
		if res = c.handle(now, iot, r, buf); res.reply.kind != ack {
			b.Fatalf("got %s", res.reply.kind)
		}
	}
}

// BenchmarkReceiveDORA is the same with the journal on a disk; up to 4,096 clients
// wait for one write.
func BenchmarkReceiveDORA(b *testing.B) {
	s, _, _ := newServer(b)
	d := packet(b, 1, discover)
	r := packet(b, 1, request, wanted("192.168.40.100"), server(box))
	b.ReportAllocs()
	for b.Loop() {
		s.receive(iot, d)
		s.receive(iot, r)
		if s.batch.full() {
			s.commit()
		}
	}
	s.commit()
}

// BenchmarkPublish writes leases.json with 10,000 leases.
func BenchmarkPublish(b *testing.B) {
	conf := testConf()
	z := &conf.Zones[0]
	z.Address, z.First, z.Last = netip.MustParsePrefix("10.0.0.1/8"), addr("10.1.0.0"), addr("10.2.0.0")
	z.Router, z.Reservations = addr("10.0.0.1"), nil
	s, _, _ := newServer(b)
	if err := s.apply(conf); err != nil {
		b.Fatal(err)
	}
	r := packet(b, 0, request, wanted("10.1.0.0"))
	for n := range 10_000 {
		binary.BigEndian.PutUint32(r[30:], uint32(n))
		a := binary.BigEndian.AppendUint32(nil, 10<<24|1<<16+uint32(n))
		copy(r[12:], a) // renewing
		s.receive(iot, r)
		if s.batch.full() {
			s.commit()
		}
	}
	s.commit()
	if n := len(s.Leases().Leases); n != 10_000 {
		b.Fatalf("%d leases", n)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.publishOnce()
	}
}
