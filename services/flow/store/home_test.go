package store_test

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// home is a household of 32 devices whose records look like a real one's: the same
// few destinations again and again, and ports, sizes and times that cannot be guessed.
type home struct {
	rng     *rand.Rand
	devices []record.Side
	sites   []site
	habits  [][]int // sites by device, the most frequent first
	server  record.Side
	now     time.Time
	pace    time.Duration // between records, on average
	tick    int
}

type site struct {
	name  string
	addrs []netip.Addr
	typed float64 // log of the bytes that it sends
}

var (
	wanAddr = netip.MustParseAddr("203.0.113.2")
	zones   = []string{"home", "iot", "guest", "services"}
)

// newHome returns a home that makes perDay records a day from start on.
func newHome(seed uint64, start time.Time, perDay int) *home {
	h := &home{rng: rand.New(rand.NewPCG(seed, 1)), now: start, pace: 24 * time.Hour / time.Duration(perDay)}
	for i := range 32 {
		zone := zones[i%3]
		d := record.Side{
			Zone: zone, Device: fmt.Sprintf("%s-%s", []string{"laptop", "phone", "camera", "plug", "tablet"}[i%5], []string{"kim", "alex", "hall", "attic"}[i%4]+fmt.Sprint(i)),
			MAC: h.mac(), Addr: netip.AddrFrom4([4]byte{192, 168, byte(10 * (1 + i%3)), byte(100 + i)}),
		}
		if zone == "guest" {
			d.Device = "" // nobody wrote these down
		}
		h.devices = append(h.devices, d)
	}
	h.server = record.Side{Zone: "services", Device: "nextcloud", MAC: h.mac(), Addr: netip.MustParseAddr("192.168.40.11")}
	for i := range 1500 {
		s := site{name: fmt.Sprintf("%s%d.%s.%s", []string{"api", "www", "cdn", "static", "img", "telemetry-in", "edge"}[h.rng.IntN(7)], h.rng.IntN(40), h.word(), []string{"com", "net", "de", "io", "example"}[h.rng.IntN(5)])}
		for range 1 + i%3 {
			s.addrs = append(s.addrs, h.foreign())
		}
		s.typed = 7 + 3*h.rng.Float64()
		h.sites = append(h.sites, s)
	}
	for _, d := range h.devices {
		n := 150
		if d.Zone == "iot" {
			n = 6
		}
		var habit []int
		for range n {
			habit = append(habit, int(h.zipf(len(h.sites))))
		}
		h.habits = append(h.habits, habit)
	}
	return h
}

func (h *home) mac() (m model.MAC) {
	for i := range m {
		m[i] = byte(h.rng.Uint32())
	}
	m[0] &^= 1
	return m
}

func (h *home) word() string {
	b := make([]byte, 4+h.rng.IntN(8))
	for i := range b {
		b[i] = "abcdefghiklmnoprstuw"[h.rng.IntN(20)]
	}
	return string(b)
}

func (h *home) foreign() netip.Addr {
	return netip.AddrFrom4([4]byte{byte(11 + h.rng.IntN(200)), byte(h.rng.Uint32()), byte(h.rng.Uint32()), byte(h.rng.Uint32())})
}

// zipf picks one of n, the first most often.
func (h *home) zipf(n int) float64 { return math.Floor(math.Pow(float64(n), h.rng.Float64())) - 1 }

func (h *home) ephemeral() uint16 { return uint16(32768 + h.rng.IntN(28232)) }

func (h *home) lognormal(mu, sigma float64) uint64 {
	return uint64(math.Exp(mu + sigma*h.rng.NormFloat64()))
}

// records returns the next n.
func (h *home) records(n int) iter.Seq[record.Record] {
	return func(yield func(record.Record) bool) {
		for range n {
			if !yield(h.next()) {
				return
			}
		}
	}
}

func (h *home) batch(n int) []record.Record {
	var list []record.Record
	for r := range h.records(n) {
		list = append(list, r)
	}
	return list
}

func (h *home) next() record.Record {
	h.now = h.now.Add(time.Duration(h.rng.ExpFloat64() * float64(h.pace)))
	h.tick++
	d := int(h.zipf(len(h.devices)))
	r := record.Record{End: h.now.Truncate(time.Millisecond), Src: h.devices[d], Verdict: record.Allowed}
	r.Src.Port = h.ephemeral()
	var took time.Duration
	switch p := h.rng.Float64(); {
	case p < 0.40:
		took = h.dns(&r)
	case p < 0.80:
		took = h.https(&r, d)
	case p < 0.83:
		took = h.ntp(&r)
	case p < 0.87:
		took = h.inside(&r)
	case p < 0.90:
		took = h.part(&r, d)
	case p < 0.95:
		took = h.refused(&r, d)
	case p < 0.98:
		took = h.scanned(&r)
	default:
		took = h.forwarded(&r)
	}
	r.Start = r.End.Add(-took.Truncate(time.Millisecond))
	if r.Began.IsZero() {
		r.Began = r.Start
	}
	return r
}

func (h *home) dns(r *record.Record) time.Duration {
	a := r.Src.Addr.As4()
	r.Dst = record.Side{Zone: model.Box, Addr: netip.AddrFrom4([4]byte{a[0], a[1], a[2], 1}), Port: 53}
	r.Proto, r.Rule, r.App = model.ProtoUDP, "box-dns", "dns"
	r.Out = record.Count{Packets: 1, Bytes: 52 + uint64(h.rng.IntN(30))}
	r.In = record.Count{Packets: 1, Bytes: r.Out.Bytes + 16*uint64(1+h.rng.IntN(10))}
	return 30*time.Second + time.Duration(h.rng.IntN(3000))*time.Millisecond
}

func (h *home) out(r *record.Record, d int) *site {
	habit := h.habits[d]
	s := &h.sites[habit[int(h.zipf(len(habit)))]]
	r.Dst = record.Side{Zone: model.Internet, Addr: s.addrs[h.rng.IntN(len(s.addrs))], Port: 443}
	r.Name, r.App, r.Rule = s.name, "https", "browsing"
	r.NATSrc = netip.AddrPortFrom(wanAddr, r.Src.Port)
	if h.rng.IntN(200) == 0 {
		r.NATSrc = netip.AddrPortFrom(wanAddr, h.ephemeral()) // the port was taken
	}
	return s
}

func (h *home) https(r *record.Record, d int) time.Duration {
	s := h.out(r, d)
	r.Proto, r.Ended = model.ProtoTCP, record.Finished
	switch p := h.rng.Float64(); {
	case p < 0.2:
		r.Proto, r.Ended, r.App = model.ProtoUDP, record.Unknown, "quic"
	case p < 0.3:
		r.Ended = record.Reset
	}
	in := h.lognormal(s.typed, 1.3)
	r.In = record.Count{Packets: 6 + in/1400 + uint64(h.rng.IntN(4))}
	r.In.Bytes = in + 52*r.In.Packets
	r.Out = record.Count{Packets: 6 + in/2500 + uint64(h.rng.IntN(5))}
	r.Out.Bytes = 900 + h.lognormal(6, 0.8) + 52*r.Out.Packets
	return time.Duration(h.lognormal(9.5, 1.4)) * time.Millisecond % time.Hour
}

func (h *home) ntp(r *record.Record) time.Duration {
	a := r.Src.Addr.As4()
	r.Dst = record.Side{Zone: model.Box, Addr: netip.AddrFrom4([4]byte{a[0], a[1], a[2], 1}), Port: 123}
	r.Proto, r.Rule, r.App = model.ProtoUDP, "box-ntp", "ntp"
	r.Out, r.In = record.Count{Packets: 1, Bytes: 76}, record.Count{Packets: 1, Bytes: 76}
	return 30*time.Second + time.Duration(h.rng.IntN(3000))*time.Millisecond
}

// inside is a connection to the server in another zone.
func (h *home) inside(r *record.Record) time.Duration {
	r.Dst = h.server
	r.Dst.Port, r.Proto, r.App, r.Rule, r.Ended = 443, model.ProtoTCP, "https", "files", record.Finished
	r.Name = "nextcloud.home.arpa"
	r.In = record.Count{Packets: 8 + h.lognormal(2, 1)}
	r.In.Bytes = r.In.Packets*52 + h.lognormal(9, 1.5)
	r.Out = record.Count{Packets: 8 + h.lognormal(2, 1)}
	r.Out.Bytes = r.Out.Packets*52 + h.lognormal(8, 1.5)
	return time.Duration(h.lognormal(8, 1.4)) * time.Millisecond % time.Hour
}

// part is an hour of a connection that stays.
func (h *home) part(r *record.Record, d int) time.Duration {
	h.out(r, d)
	r.Src.Port = 40000 + uint16(d)
	r.NATSrc = netip.AddrPortFrom(wanAddr, r.Src.Port)
	r.Dst.Port, r.App, r.Proto, r.Ended = 8883, "mqtt-tls", model.ProtoTCP, record.Continues
	r.Out = record.Count{Packets: 120 + uint64(h.rng.IntN(10)), Bytes: 8000 + uint64(h.rng.IntN(2000))}
	r.In = record.Count{Packets: 120 + uint64(h.rng.IntN(10)), Bytes: 7000 + uint64(h.rng.IntN(1000))}
	r.Began = r.End.Add(-time.Duration(1+h.rng.IntN(40)) * time.Hour)
	return time.Hour
}

func (h *home) refused(r *record.Record, d int) time.Duration {
	h.out(r, d)
	r.NATSrc, r.Verdict, r.Proto, r.Ended = netip.AddrPort{}, record.Refused, model.ProtoTCP, record.Unknown
	r.Rule, r.Reason = "", "no-rule"
	if r.Src.Zone == "iot" {
		r.Rule, r.Reason = "iot-stays-home", ""
	}
	n := uint64(1 + h.rng.IntN(6))
	r.Out = record.Count{Packets: n, Bytes: 60 * n}
	return time.Duration(h.rng.IntN(60000)) * time.Millisecond
}

// scanned is what anybody with a public address gets.
func (h *home) scanned(r *record.Record) time.Duration {
	r.Src = record.Side{Zone: model.Internet, Addr: h.foreign(), Port: h.ephemeral()}
	r.Dst = record.Side{Zone: model.Box, Addr: wanAddr, Port: []uint16{22, 23, 80, 443, 8080, uint16(h.rng.Uint32())}[h.rng.IntN(6)]}
	r.Proto, r.Verdict, r.Reason = model.ProtoTCP, record.Refused, "no-rule"
	r.Out = record.Count{Packets: 1, Bytes: 40 + 4*uint64(h.rng.IntN(6))}
	return 0
}

func (h *home) forwarded(r *record.Record) time.Duration {
	r.Src = record.Side{Zone: model.Internet, Addr: h.sites[int(h.zipf(200))].addrs[0], Port: h.ephemeral()}
	r.Dst = h.server
	r.Dst.Port = 443
	r.NATDst = netip.AddrPortFrom(wanAddr, 8443)
	r.Proto, r.App, r.Rule, r.Ended = model.ProtoTCP, "https", "cloud-from-outside", record.Finished
	r.In = record.Count{Packets: 8 + h.lognormal(2, 1)}
	r.In.Bytes = r.In.Packets*52 + h.lognormal(9, 1.5)
	r.Out = record.Count{Packets: 8 + h.lognormal(2, 1)}
	r.Out.Bytes = r.Out.Packets*52 + h.lognormal(7, 1)
	return time.Duration(h.lognormal(8, 1.4)) * time.Millisecond % time.Hour
}
