package store

import (
	"fmt"
	"net/netip"

	"github.com/parquet-go/parquet-go"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// line is a row of a file: the columns are its fields, in this order. Almost all columns
// that a shape has are dictionaries whose indices come in runs, as rows are sorted by
// shape. Columns of numbers that hardly repeat are deltas, which every reader knows;
// packets and ages repeat.
type line struct {
	Start      int64  `parquet:"start,timestamp(millisecond:utc),delta"`
	Duration   int64  `parquet:"duration_ms,delta"`
	Age        int64  `parquet:"age_ms,dict"`
	SrcZone    string `parquet:"src_zone,dict"`
	SrcDevice  string `parquet:"src_device,dict"`
	SrcMAC     string `parquet:"src_mac,dict"`
	SrcAddr    string `parquet:"src_addr,dict"`
	SrcPort    int32  `parquet:"src_port,delta"`
	DstZone    string `parquet:"dst_zone,dict"`
	DstDevice  string `parquet:"dst_device,dict"`
	DstMAC     string `parquet:"dst_mac,dict"`
	DstAddr    string `parquet:"dst_addr,dict"`
	DstPort    int32  `parquet:"dst_port,dict"`
	NATSrcAddr string `parquet:"nat_src_addr,dict"`
	NATSrcPort int32  `parquet:"nat_src_port,dict"` // kept if it is src_port
	NATDstAddr string `parquet:"nat_dst_addr,dict"`
	NATDstPort int32  `parquet:"nat_dst_port,dict"`
	Proto      int32  `parquet:"proto,dict"`
	OutPackets int64  `parquet:"out_packets,dict"`
	OutBytes   int64  `parquet:"out_bytes,delta"`
	InPackets  int64  `parquet:"in_packets,dict"`
	InBytes    int64  `parquet:"in_bytes,delta"`
	Verdict    string `parquet:"verdict,dict"`
	Rule       string `parquet:"rule,dict"`
	Reason     string `parquet:"reason,dict"`
	Ended      string `parquet:"ended,dict"`
	Name       string `parquet:"name,dict"`
	App        string `parquet:"app,dict"`
}

// kept says in nat_src_port that translation kept the port.
const kept = -1

// Columns by their place in line.
const (
	colStart = iota
	colDuration
	colAge
	colSrcZone
	colSrcDevice
	colSrcMAC
	colSrcAddr
	colSrcPort
	colDstZone
	colDstDevice
	colDstMAC
	colDstAddr
	colDstPort
	colNATSrcAddr
	colNATSrcPort
	colNATDstAddr
	colNATDstPort
	colProto
	colOutPackets
	colOutBytes
	colInPackets
	colInBytes
	colVerdict
	colRule
	colReason
	colEnded
	colName
	colApp
	numColumns
)

// columns is a set of them.
type columns uint32

func setOf(cols ...int) (s columns) {
	for _, c := range cols {
		s |= 1 << c
	}
	return s
}

func (s columns) has(c int) bool { return s>>c&1 != 0 }

var (
	allColumns  = columns(1<<numColumns - 1)
	ofRows      = setOf(colStart, colDuration, colAge, colSrcPort, colNATSrcPort, colOutPackets, colOutBytes, colInPackets, colInBytes)
	ofShapes    = allColumns &^ ofRows
	schema      = parquet.SchemaOf(line{})
	addrStrings = func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
)

// lineOf puts a record into columns.
func lineOf(s *record.Record, r *row) line {
	l := line{
		Start: r.start, Duration: r.duration, Age: r.age,
		SrcZone: s.Src.Zone, SrcDevice: s.Src.Device, SrcMAC: macString(s.Src.MAC), SrcAddr: addrStrings(s.Src.Addr), SrcPort: int32(r.srcPort),
		DstZone: s.Dst.Zone, DstDevice: s.Dst.Device, DstMAC: macString(s.Dst.MAC), DstAddr: addrStrings(s.Dst.Addr), DstPort: int32(s.Dst.Port),
		NATSrcAddr: addrStrings(s.NATSrc.Addr()), NATSrcPort: kept,
		NATDstAddr: addrStrings(s.NATDst.Addr()), NATDstPort: int32(s.NATDst.Port()),
		Proto:      int32(s.Proto),
		OutPackets: int64(r.outPackets), OutBytes: int64(r.outBytes), InPackets: int64(r.inPackets), InBytes: int64(r.inBytes),
		Verdict: s.Verdict.String(), Rule: s.Rule, Reason: s.Reason, Ended: s.Ended.String(), Name: s.Name, App: s.App,
	}
	if r.natPort != r.srcPort {
		l.NATSrcPort = int32(r.natPort)
	}
	return l
}

func macString(m model.MAC) string {
	if m.IsZero() {
		return ""
	}
	return m.String()
}

// setter sets the field of a shape that a column stands for to an entry of its dictionary.
type setter func(s *record.Record, entry int32)

// setters make one out of a dictionary, by column.
var setters = [numColumns]func(parquet.Dictionary) (setter, error){
	colSrcZone:    texts(func(s *record.Record) *string { return &s.Src.Zone }),
	colSrcDevice:  texts(func(s *record.Record) *string { return &s.Src.Device }),
	colDstZone:    texts(func(s *record.Record) *string { return &s.Dst.Zone }),
	colDstDevice:  texts(func(s *record.Record) *string { return &s.Dst.Device }),
	colRule:       texts(func(s *record.Record) *string { return &s.Rule }),
	colReason:     texts(func(s *record.Record) *string { return &s.Reason }),
	colName:       texts(func(s *record.Record) *string { return &s.Name }),
	colApp:        texts(func(s *record.Record) *string { return &s.App }),
	colSrcMAC:     parsed(parseMAC, func(s *record.Record, m model.MAC) { s.Src.MAC = m }),
	colDstMAC:     parsed(parseMAC, func(s *record.Record, m model.MAC) { s.Dst.MAC = m }),
	colSrcAddr:    parsed(parseAddr, func(s *record.Record, a netip.Addr) { s.Src.Addr = a }),
	colDstAddr:    parsed(parseAddr, func(s *record.Record, a netip.Addr) { s.Dst.Addr = a }),
	colNATSrcAddr: parsed(parseAddr, func(s *record.Record, a netip.Addr) { s.NATSrc = netip.AddrPortFrom(a, 0) }),
	colNATDstAddr: parsed(parseAddr, func(s *record.Record, a netip.Addr) { s.NATDst = netip.AddrPortFrom(a, s.NATDst.Port()) }),
	colVerdict: parsed(func(s string) (v record.Verdict, err error) {
		err = v.UnmarshalText([]byte(s))
		return v, err
	}, func(s *record.Record, v record.Verdict) { s.Verdict = v }),
	colEnded: parsed(func(s string) (e record.End, err error) {
		err = e.UnmarshalText([]byte(s))
		return e, err
	}, func(s *record.Record, e record.End) { s.Ended = e }),
	colProto:      numbers(func(s *record.Record, n int32) { s.Proto = uint8(n) }),
	colDstPort:    numbers(func(s *record.Record, n int32) { s.Dst.Port = uint16(n) }),
	colNATDstPort: numbers(func(s *record.Record, n int32) { s.NATDst = netip.AddrPortFrom(s.NATDst.Addr(), uint16(n)) }),
}

func texts(field func(*record.Record) *string) func(parquet.Dictionary) (setter, error) {
	return parsed(func(s string) (string, error) { return s, nil }, func(r *record.Record, s string) { *field(r) = s })
}

func parsed[T any](parse func(string) (T, error), set func(*record.Record, T)) func(parquet.Dictionary) (setter, error) {
	return func(d parquet.Dictionary) (setter, error) {
		entries := make([]T, d.Len())
		for i := range entries {
			var err error
			if entries[i], err = parse(d.Index(int32(i)).String()); err != nil {
				return nil, fmt.Errorf("entry %d: %w", i, err)
			}
		}
		return func(s *record.Record, entry int32) { set(s, entries[entry]) }, nil
	}
}

func numbers(set func(*record.Record, int32)) func(parquet.Dictionary) (setter, error) {
	return func(d parquet.Dictionary) (setter, error) {
		entries := make([]int32, d.Len())
		for i := range entries {
			entries[i] = d.Index(int32(i)).Int32()
		}
		return func(s *record.Record, entry int32) { set(s, entries[entry]) }, nil
	}
}

func parseMAC(s string) (model.MAC, error) {
	if s == "" {
		return model.MAC{}, nil
	}
	return model.ParseMAC(s)
}

func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	return netip.ParseAddr(s)
}
