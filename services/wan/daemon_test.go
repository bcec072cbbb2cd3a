package wan

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/wan/dhcp4"
)

var (
	dhcpConfig = svcconf.WAN{Link: "wan", Mode: model.ModeDHCP, Hostname: "gw"}
	ownMAC     = model.MAC{0x52, 0x54, 0, 0x10, 0, 1}
	up         = link{name: "wan", index: 3, mac: ownMAC, up: true}
	down       = link{name: "wan", index: 3, mac: ownMAC}
)

// provider is a network with one link and a DHCP server behind it, in memory.
type provider struct {
	mu       sync.Mutex
	now      link
	silent   bool
	deny     bool
	lease    time.Duration
	unicasts int
	host     string // name of the client, as last sent
	open_    *fakeWire
	sockets  error // why sockets cannot be opened
}

func (p *provider) set(f func(p *provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *provider) link(name string) (link, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.now.index != 0 && p.now.name == name
}

func (p *provider) open(_ link, events chan<- heard) (wire, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets != nil {
		return nil, p.sockets
	}
	p.open_ = &fakeWire{p: p, events: events, closed: make(chan struct{})}
	return p.open_, nil
}

type fakeWire struct {
	p      *provider
	events chan<- heard
	closed chan struct{}
	work   sync.WaitGroup
}

func (w *fakeWire) deliver(h heard) {
	w.work.Go(func() {
		select {
		case w.events <- h:
		case <-w.closed:
		}
	})
}

func (w *fakeWire) broadcast(msg []byte) error {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	m, err := dhcpv4.FromBytes(msg)
	if err != nil {
		return err
	}
	w.p.host = m.HostName()
	if w.p.silent {
		return nil
	}
	kind := dhcpv4.MessageTypeOffer
	switch {
	case m.MessageType() == dhcpv4.MessageTypeRequest && w.p.deny:
		kind = dhcpv4.MessageTypeNak
	case m.MessageType() == dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	}
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(net.IP{192, 0, 2, 7}),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{192, 0, 2, 1})),
		dhcpv4.WithRouter(net.IP{192, 0, 2, 1}), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithDNS(net.IP{192, 0, 2, 53}), dhcpv4.WithLeaseTime(uint32(w.p.lease/time.Second)))
	if err != nil {
		return err
	}
	w.deliver(heard{event: dhcp4.Packet{Data: r.ToBytes()}})
	return nil
}

func (w *fakeWire) unicast(msg []byte, _, _ netip.Addr) error {
	w.p.set(func(p *provider) { p.unicasts++ })
	return w.broadcast(msg)
}

func (w *fakeWire) probe(netip.Addr) error { return nil }
func (w *fakeWire) endProbe()              {}
func (w *fakeWire) close()                 { close(w.closed); w.work.Wait() }

// box is where daemons run, one after the other.
type box struct {
	t *testing.T
	*provider
	files  files
	d      *daemon
	cancel context.CancelFunc
	done   chan struct{}
}

func newBox(t *testing.T) *box {
	b := &box{t: t, provider: &provider{now: up, lease: time.Hour}, files: files{run: t.TempDir(), state: t.TempDir()}}
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *box) start(configs ...svcconf.WAN) {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.d = newDaemon(slog.New(slog.DiscardHandler), b.provider, b.files)
	b.cancel, b.done = cancel, make(chan struct{})
	go func() {
		defer close(b.done)
		if err := b.d.run(ctx); !errors.Is(err, context.Canceled) {
			b.t.Errorf("the daemon ended: %v", err)
		}
	}()
	for _, c := range configs {
		b.configure(c)
	}
}

func (b *box) configure(c svcconf.WAN) { b.d.configs <- c; synctest.Wait() }

func (b *box) stop() {
	if b.cancel != nil {
		b.cancel()
		<-b.done
		b.cancel = nil
	}
}

// uplink reads the uplink file; nil means that there is none.
func (b *box) uplink() *facts.Lease {
	b.t.Helper()
	synctest.Wait()
	return readJSON[facts.Lease](b.t, b.files.uplink())
}

func (b *box) status() svcconf.WANStatus {
	b.t.Helper()
	synctest.Wait()
	s := readJSON[svcconf.WANStatus](b.t, b.files.status())
	if s == nil {
		b.t.Fatal("no status")
	}
	return *s
}

func readJSON[T any](t *testing.T, path string) *T {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v := new(T)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantUplink says whether there must be a lease in force.
func (b *box) wantUplink(want bool) {
	b.t.Helper()
	if got := b.uplink(); (got != nil) != want {
		b.t.Errorf("uplink file: %+v, wanted one: %t", got, want)
	}
}

func (b *box) wantState(want string) svcconf.WANStatus {
	b.t.Helper()
	s := b.status()
	if s.State != want {
		b.t.Errorf("state %q, want %q", s.State, want)
	}
	return s
}

func TestKeepsLeaseForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		for range 8 {
			time.Sleep(6 * time.Hour)
			l := b.uplink()
			if l == nil || !l.Expires.After(time.Now()) {
				t.Fatalf("lease %+v at %s", l, time.Now())
			}
		}
		if s := b.wantState("bound"); s.LastError != "" || s.Address.String() != "192.0.2.7/24" {
			t.Errorf("status %+v", s)
		}
		b.stop()
		b.wantState("stopped")
		b.wantUplink(true)
	})
}

func TestLeaseFileSaysWhatTheServerSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		data, err := os.ReadFile(b.files.uplink())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"link": "wan"`, `"address": "192.0.2.7/24"`, `"gateway": "192.0.2.1"`, `"192.0.2.53"`, `"expires": "2000-01-01T01:00:0`} {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s is not in\n%s", want, data)
			}
		}
	})
}

func TestLeaseEndsWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.set(func(p *provider) { p.silent = true })
		time.Sleep(55 * time.Minute)
		b.wantUplink(true)
		b.wantState("rebinding")
		time.Sleep(6 * time.Minute)
		b.wantUplink(false)
		if s := b.wantState("selecting"); s.LastError == "" || s.NextAt.IsZero() {
			t.Errorf("status %+v", s)
		}
	})
}

func TestRestartKeepsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.stop()
		b.set(func(p *provider) { p.silent = true })
		time.Sleep(10 * time.Minute)

		b.start() // no configuration yet
		time.Sleep(time.Minute)
		b.wantUplink(true)
		b.configure(dhcpConfig)
		for range 45 {
			time.Sleep(time.Minute)
			b.wantUplink(true)
		}
		time.Sleep(5 * time.Minute)
		b.wantUplink(false)
	})
}

func TestRestartAfterExpiryStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.stop()
		b.set(func(p *provider) { p.silent = true })
		time.Sleep(2 * time.Hour)
		b.start(dhcpConfig)
		b.wantUplink(false)
	})
}

func TestRebootUsesNoAddressUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.stop()
		if err := os.Remove(b.files.uplink()); err != nil { // as /run is emptied
			t.Fatal(err)
		}
		b.set(func(p *provider) { p.silent = true })
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.wantState("rebooting")
		b.wantUplink(false)
		b.set(func(p *provider) { p.silent = false })
		time.Sleep(10 * time.Second)
		b.wantUplink(true)
	})
}

func TestGarbageLeftBehindIsNoLease(t *testing.T) {
	lease := func(change func(*facts.Lease)) string {
		l := facts.Lease{
			Link: "wan", Address: netip.MustParsePrefix("192.0.2.7/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
			Server: netip.MustParseAddr("192.0.2.1"), Obtained: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
			Expires: time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC),
		}
		change(&l)
		data, _ := json.Marshal(l)
		return string(data)
	}
	tests := map[string]struct {
		file string
		kept bool
	}{
		"whole lease":  {lease(func(*facts.Lease) {}), true},
		"cut":          {`{"link": "wan", "addr`, false},
		"other link":   {lease(func(l *facts.Lease) { l.Link = "eth7" }), false},
		"static":       {lease(func(l *facts.Lease) { l.Server = netip.Addr{} }), false},
		"no gateway":   {lease(func(l *facts.Lease) { l.Gateway = netip.Addr{} }), false},
		"expired":      {lease(func(l *facts.Lease) { l.Expires = l.Obtained }), false},
		"IPv6 address": {lease(func(l *facts.Lease) { l.Address = netip.MustParsePrefix("2001:db8::1/64") }), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				b.set(func(p *provider) { p.silent = true })
				if err := os.WriteFile(b.files.uplink(), []byte(tt.file), 0o644); err != nil {
					t.Fatal(err)
				}
				b.start(dhcpConfig)
				b.wantUplink(tt.kept)
			})
		})
	}
}

// The clock was set back by decades while no daemon ran.
func TestClockSetBackDoesNotLengthenLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.set(func(p *provider) { p.silent = true })
		file := `{"link":"wan","address":"192.0.2.7/24","gateway":"192.0.2.1","server":"192.0.2.1",
			"obtained":"2026-01-01T00:00:00Z","expires":"2026-01-01T01:00:00Z"}`
		if err := os.WriteFile(b.files.uplink(), []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		b.start(dhcpConfig)
		b.wantUplink(true)
		if got, want := b.uplink().Expires, time.Now().Add(time.Hour).Truncate(time.Second); !got.Equal(want) {
			t.Errorf("expires at %s, want %s", got, want)
		}
		time.Sleep(61 * time.Minute)
		b.wantUplink(false)
	})
}

func TestLostLinkIsCheckedWhenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.set(func(p *provider) { p.now = down })
		time.Sleep(2 * time.Second)
		b.wantUplink(true)
		s := b.wantState("no carrier")
		if want := "wait for the link wan to come up; the lease is kept until it expires and checked then"; s.Next != want {
			t.Errorf("next: %q, want %q", s.Next, want)
		}
		b.set(func(p *provider) { p.now, p.deny = up, true })
		time.Sleep(3 * time.Second)
		b.wantUplink(false)
	})
}

// Renewals are no breaks; a cable that was out is one, though the lease stays in force.
func TestLeaseSaysSinceWhenItHoldsWithoutABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		began := b.uplink().Since
		if began.IsZero() || time.Since(began) > 5*time.Second {
			t.Fatalf("held since %s at %s", began, time.Now())
		}
		time.Sleep(49 * time.Hour)
		if l := b.uplink(); !l.Since.Equal(began) || !l.Obtained.After(began) {
			t.Errorf("after renewals: %+v, want since %s", l, began)
		}
		b.set(func(p *provider) { p.now = down })
		time.Sleep(2 * time.Second)
		if l := b.uplink(); l == nil || !l.Since.IsZero() {
			t.Errorf("without a carrier: %+v", l)
		}
		b.set(func(p *provider) { p.now = up })
		time.Sleep(10 * time.Second)
		if l := b.uplink(); l == nil || time.Since(l.Since) > 11*time.Second {
			t.Errorf("with a carrier again: %+v at %s", l, time.Now())
		}
	})
}

func TestLinkMayComeLate(t *testing.T) {
	for _, c := range []svcconf.WAN{dhcpConfig, staticConfig} {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t)
			b.set(func(p *provider) { p.now = link{} })
			b.start(c)
			time.Sleep(time.Hour)
			b.wantState("no link")
			b.wantUplink(false)
			b.set(func(p *provider) { p.now = up })
			time.Sleep(5 * time.Second)
			b.wantUplink(true)
		})
	}
}

var staticConfig = svcconf.WAN{
	Link: "wan", Mode: model.ModeStatic, Address: netip.MustParsePrefix("203.0.113.2/24"),
	Gateway: netip.MustParseAddr("203.0.113.1"), Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.53")},
}

func TestStaticUplinkNeedsNoCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.set(func(p *provider) { p.now = down })
		b.start(staticConfig)
		time.Sleep(2 * time.Second)
		l := b.uplink()
		if l == nil || l.Address != staticConfig.Address || !l.Expires.IsZero() || l.Server.IsValid() {
			t.Fatalf("uplink file %+v", l)
		}
		b.wantState("static")
		b.stop()
		time.Sleep(time.Hour)
		b.start(staticConfig)
		if again := b.uplink(); again == nil || !again.Obtained.Equal(l.Obtained) {
			t.Errorf("a restart made of %+v\n%+v", l, again)
		}
		b.set(func(p *provider) { p.now = link{} })
		time.Sleep(2 * time.Second)
		b.wantUplink(false)
	})
}

func TestConfigurationMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)

		renamed := dhcpConfig
		renamed.Hostname = "gateway"
		b.configure(renamed)
		b.wantUplink(true)
		time.Sleep(40 * time.Minute)
		b.set(func(p *provider) {
			if p.host != "gateway" || p.unicasts != 1 {
				t.Errorf("host name %q after %d renewals", p.host, p.unicasts)
			}
		})

		b.configure(staticConfig)
		if l := b.uplink(); l == nil || l.Address != staticConfig.Address {
			t.Errorf("uplink file %+v, want the static one", l)
		}
		b.configure(dhcpConfig)
		b.wantUplink(false)
		time.Sleep(5 * time.Second)
		b.wantUplink(true)
		b.configure(svcconf.WAN{})
		b.wantUplink(false)
		time.Sleep(2 * time.Second)
		b.wantState("off")
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.set(func(p *provider) { p.sockets = errors.New("no sockets left") })
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		if s := b.wantState("no carrier"); s.LastError != "no sockets left" {
			t.Errorf("last error %q", s.LastError)
		}
		inTheWay := filepath.Join(b.files.uplink(), "x")
		if err := os.MkdirAll(inTheWay, 0o755); err != nil { // a file cannot take a directory's place
			t.Fatal(err)
		}
		b.set(func(p *provider) { p.sockets = nil })
		time.Sleep(5 * time.Second)
		if s := b.wantState("bound"); s.LastError == "" {
			t.Error("nobody is told that the uplink file cannot be written")
		}
		if err := os.RemoveAll(b.files.uplink()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		b.wantUplink(true)
	})
}

func TestDeafWireIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.start(dhcpConfig)
		time.Sleep(5 * time.Second)
		b.provider.open_.deliver(heard{err: errors.New("network is down")})
		synctest.Wait()
		b.wantUplink(true)
		time.Sleep(2 * time.Second)
		b.wantState("bound")
	})
}

func TestFloodOfBadAnswersIsCountedOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.set(func(p *provider) { p.silent = true })
		b.start(dhcpConfig)
		time.Sleep(2500 * time.Millisecond)
		before := b.status()
		for range 1000 {
			b.provider.open_.deliver(heard{event: dhcp4.Packet{Data: []byte("nonsense")}})
		}
		if got := b.status(); got != before {
			t.Errorf("status was written between two polls: %+v", got)
		}
		time.Sleep(time.Second)
		if got := b.status().Refused; got != 1000 {
			t.Errorf("%d refused, want 1000", got)
		}
	})
}

func TestLeftoversAreSwept(t *testing.T) {
	b := newBox(t)
	left := filepath.Join(b.files.run, ".uplink.json123456")
	if err := os.WriteFile(left, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b.files.sweep()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestNonsenseConfigurationIsRefused(t *testing.T) {
	for _, c := range []svcconf.WAN{
		{Link: "wan", Mode: model.ModeDelegated},
		{Link: "wan", Mode: 200},
		{Link: "wan", Mode: model.ModeStatic},
		{Link: "wan", Mode: model.ModeStatic, Address: netip.MustParsePrefix("2001:db8::1/64"), Gateway: netip.MustParseAddr("2001:db8::2")},
	} {
		if err := check(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	for _, c := range []svcconf.WAN{{}, dhcpConfig, staticConfig} {
		if err := check(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
