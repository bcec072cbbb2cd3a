package suggest_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/suggest"
)

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func example(t *testing.T) (*model.Config, string) {
	t.Helper()
	data, err := os.ReadFile("../../configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(data)), string(data)
}

func parse(t *testing.T, text string) *model.Config {
	t.Helper()
	cfg, problems := conf.Parse("home.yaml", []byte(text), now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return cfg
}

var env = policy.Env{
	Now: now, Uplink: netip.MustParsePrefix("203.0.113.2/24"),
	Devices: map[string]netip.Addr{"tv": netip.MustParseAddr("192.168.40.100")},
}

// refused makes what was seen of packets to a destination: "zone[/device] address >
// zone[/device] address protocol/port".
func refused(text string) suggest.Seen {
	var from, src, to, dst string
	s := suggest.Seen{Reason: "policy", Count: 3, First: now.Add(-48 * time.Hour), Last: now}
	if _, err := fmt.Sscanf(text, "%s %s > %s %s %d/%d", &from, &src, &to, &dst, &s.Proto, &s.Port); err != nil {
		panic(text + ": " + err.Error())
	}
	party := func(name, addr string) suggest.Party {
		zone, device, _ := strings.Cut(name, "/")
		return suggest.Party{Zone: zone, Device: device, Addr: netip.MustParseAddr(addr)}
	}
	s.From, s.To = party(from, src), party(to, dst)
	return s
}

func TestProposals(t *testing.T) {
	observed := refused("guest 192.168.50.140 > internet 198.51.100.7 17/443")
	observed.Reason, observed.Rule, observed.Name = "", "observe:guest", "evil\n# example"
	blocked := refused("iot/tv 192.168.40.100 > internet 198.51.100.7 6/443")
	blocked.Reason, blocked.Rule = "", "tv-stays-home"
	spoofed := refused("iot 10.9.9.9 > internet 198.51.100.7 6/443")
	spoofed.Reason = "spoofed"
	allowed := refused("services/nextcloud 192.168.20.11 > storage/nas 192.168.30.10 6/2049")
	allowed.Reason, allowed.Rule = "", "nextcloud-data"
	seen := []suggest.Seen{
		observed, blocked, spoofed, allowed,
		refused("iot/tv 192.168.40.100 > storage/nas 192.168.30.10 6/445"),
		refused("services/nextcloud 192.168.20.11 > storage/nas 192.168.30.10 6/445"),
		refused("management 192.168.10.130 > storage 192.168.30.20 6/9000"),
		refused("iot/tv 192.168.40.100 > services/nextcloud 192.168.20.11 6/5201"),
		refused("iot/tv 192.168.40.100 > services/nextcloud 192.168.20.11 17/5201"),
		refused("iot/tv 192.168.40.100 > services/nextcloud 192.168.20.11 1/8"),
		refused("internet 198.51.100.9 > services/nextcloud 192.168.20.11 6/22"),
		refused("iot/tv 192.168.40.100 > box 192.168.40.1 6/22"),
		refused("gone 10.1.1.1 > storage 192.168.30.10 6/22"),
	}
	for port := range 20 {
		seen = append(seen, refused(fmt.Sprintf("guest 192.168.50.141 > services/nextcloud 192.168.20.11 6/%d", 7000+port)))
	}
	cfg, _ := example(t)
	got := suggest.Allows(cfg, seen)
	var text strings.Builder
	for _, p := range got.Proposals {
		fmt.Fprintf(&text, "%s", p.YAML(time.UTC))
	}
	for _, l := range got.LeftOut {
		fmt.Fprintf(&text, "left out: %s (%d kinds, %d)\n", l.Why, l.Kinds, l.Count)
	}
	want := `  # tv → nas tcp/445: refused 3×, 2026-11-25 to 2026-11-27
  # nextcloud → nas tcp/445: refused 3×, 2026-11-25 to 2026-11-27
  - name: nextcloud-nas-smb
    from: [nextcloud, tv]
    to: nas
    protocols: smb
    why: ""
  # tv → nextcloud tcp/5201: refused 3×, 2026-11-25 to 2026-11-27
  # tv → nextcloud udp/5201: refused 3×, 2026-11-25 to 2026-11-27
  # tv → nextcloud icmp/8: refused 3×, 2026-11-25 to 2026-11-27
  - name: tv-nextcloud
    from: tv
    to: nextcloud
    protocols: [iperf3, ping]
    why: ""
  # 192.168.10.130 (management) → 192.168.30.20 (storage) tcp/9000: refused 3×, 2026-11-25 to 2026-11-27
  # note: all of zone management, because the file does not know the machine: declare it under devices to allow it to that one alone
  # note: 192.168.30.20 is nobody's in the file: whoever takes it may do the same; declare it under devices to bind it to a MAC
  - name: management-host-20
    from: management
    to: 192.168.30.20
    protocols: tcp/9000
    why: ""
  # 192.168.50.140 (guest) → 198.51.100.7 (internet) "evil\n# example" udp/443: seen 3×, 2026-11-25 to 2026-11-27
  # note: all of zone guest, because the file does not know the machine: declare it under devices to allow it to that one alone
  # note: all of the internet: addresses there change hands
  - name: guest-internet-http3
    from: guest
    to: internet
    protocols: http3
    why: ""
left out: refused at 20 ports or more of one destination, as if somebody tried doors (20 kinds, 60)
left out: from the internet: only forwards let that in (1 kinds, 3)
left out: from where the file has no zone (1 kinds, 3)
left out: no connection that a rule could allow: spoofed (1 kinds, 3)
left out: refused on purpose, by the block tv-stays-home (1 kinds, 3)
left out: to the box itself, which offers a zone what the zone has switched on (1 kinds, 3)
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is proposed, once it is in the file, lets pass everything that it was proposed
// for, and of everything else only what the proposals name.
func TestProposalsAllowWhatWasSeen(t *testing.T) {
	cfg, text := example(t)
	g := rand.New(rand.NewPCG(1, 2))
	parties := []string{
		"iot/tv 192.168.40.100", "services/nextcloud 192.168.20.11", "storage/nas 192.168.30.10", "management 192.168.10.130",
		"management 192.168.10.20", "guest 192.168.50.140", "internet 198.51.100.7", "storage 192.168.30.200",
	}
	ports := []string{"6/22", "6/80", "17/53", "6/53", "1/8", "6/445", "47/0", "6/5201", "17/5201", "17/999"}
	for round := range 300 {
		var seen []suggest.Seen
		for range 1 + g.IntN(12) {
			from, to := parties[g.IntN(len(parties))], parties[g.IntN(len(parties))]
			s := refused(from + " > " + to + " " + ports[g.IntN(len(ports))])
			if s.From.Zone != s.To.Zone {
				seen = append(seen, s)
			}
		}
		r := suggest.Allows(cfg, seen)
		lines, covered := "", 0
		for _, p := range r.Proposals {
			lines += strings.Replace(p.YAML(time.UTC), `why: ""`, "why: test", 1)
			covered += len(p.Evidence) + p.More
		}
		for _, l := range r.LeftOut {
			covered += l.Kinds
		}
		if covered != len(seen) {
			t.Fatalf("round %d: of %d kinds %d are proposed or left out", round, len(seen), covered)
		}
		after := policy.New(parse(t, strings.Replace(text, "allow:\n", "allow:\n"+lines, 1)), env)
		before := policy.New(cfg, env)
		for _, from := range parties {
			for _, to := range parties {
				for _, port := range ports {
					s := refused(from + " > " + to + " " + port)
					if s.From.Zone == s.To.Zone {
						continue
					}
					f := policy.Flow{From: s.From.Zone, Src: s.From.Addr, Dst: s.To.Addr, Proto: s.Proto, Port: s.Port, SrcPort: 40000}
					was, is := before.Decide(f), after.Decide(f)
					named := wanted(r, s)
					blocked := was.Rule != nil && was.Rule.Block
					if want := was.Allow || named && !blocked; is.Allow != want {
						t.Fatalf("round %d: %s > %s %s: allowed %v, want %v; proposed were\n%s", round, from, to, port, is.Allow, want, lines)
					}
				}
			}
		}
	}
}

// wanted reports whether a proposal names s, by the words of the proposal alone.
func wanted(r suggest.Result, s suggest.Seen) bool {
	is := func(words []string, p suggest.Party) bool {
		for _, w := range words {
			if w == p.Device || w == p.Zone || w == p.Addr.String() {
				return true
			}
		}
		return false
	}
	for _, p := range r.Proposals {
		if !is(p.From, s.From) || !is(p.To, s.To) {
			continue
		}
		for _, w := range p.Protocols {
			list, ok := model.Catalogued(w)
			for _, sv := range list {
				if sv.Contains(s.Proto, s.Port) {
					return true
				}
			}
			if !ok && (w == fmt.Sprintf("tcp/%d", s.Port) && s.Proto == 6 || w == fmt.Sprintf("udp/%d", s.Port) && s.Proto == 17 || w == "gre" && s.Proto == 47) {
				return true
			}
		}
	}
	return false
}

func TestUnusedRules(t *testing.T) {
	cfg, _ := example(t)
	day := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	last := map[string]time.Time{"admin": day(1), "browsing": day(31), "nextcloud-data": day(100), "tv-stays-home": day(29)}
	list := func(since time.Time) (s []string) {
		for _, u := range suggest.Rules(cfg, last, since, now, 30, 90) {
			s = append(s, fmt.Sprintf("%s %s %d", u.Kind, u.Name, u.Days))
		}
		return s
	}
	if diff := cmp.Diff([]string{"allow nextcloud-data 90", "allow tv-films 90", "forward wireguard-lab 90", "allow browsing 30"}, list(day(200))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"allow browsing 30", "allow nextcloud-data 30", "allow tv-films 30", "forward wireguard-lab 30"}, list(day(40))); diff != "" {
		t.Errorf("of records of 40 days (-want +got)\n%s", diff)
	}
	if got := list(day(20)); got != nil {
		t.Errorf("of records of 20 days: %q", got)
	}
}
