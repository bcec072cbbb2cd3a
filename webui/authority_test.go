//go:build linux

package webui_test

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/webui"
)

func TestBrowserThatKnowsTheAuthorityBelievesTheBox(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	resp, body := b.raw("GET", b.url("127.0.0.1")+"/ca.crt", "", nil, "")
	ca, err := x509.ParseCertificate([]byte(body))
	if resp.StatusCode != http.StatusOK || err != nil {
		t.Fatalf("got %d, %v", resp.StatusCode, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	leaf, err := x509.ParseCertificate(b.certificate("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gw", "gw.home.arpa", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour {
		t.Errorf("it is good for %s: browsers refuse that", life)
	}
	if v := b.browser().get("/certificate"); !strings.Contains(v.body, ca.Subject.CommonName) {
		t.Errorf("the page does not say what the authority is called:\n%s", v.body)
	}
}

// A thief of the authority's key is believed about this box, and nothing else.
func TestAuthorityVouchesForNothingElse(t *testing.T) {
	b := newIdentity(t)
	for name, want := range map[string]bool{
		"gw.home.arpa": true, "gw": true, "10.1.2.3": true, "192.168.7.1": true, "fd00::1": true,
		"home.arpa": false, "bank.example": false, "gw.home.arpa.evil.example": false, "1.1.1.1": false, "2001:db8::1": false,
	} {
		if got := b.Vouches(t, name); got != want {
			t.Errorf("%s: believed %t, want %t", name, got, want)
		}
	}
}

type identity struct {
	*webui.Identity
	now time.Time
	dir string
}

func newIdentity(t *testing.T) *identity {
	t.Helper()
	id := &identity{now: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), dir: t.TempDir()}
	id.open(t)
	return id
}

func (id *identity) open(t *testing.T) {
	t.Helper()
	var err error
	if id.Identity, err = webui.OpenIdentity(id.dir, slog.New(slog.DiscardHandler), func() time.Time { return id.now }); err != nil {
		t.Fatal(err)
	}
	id.cover(t, svcconf.Web{Name: "gw", Domain: "home.arpa", Listen: []netip.Addr{netip.MustParseAddr("192.168.10.1")}})
}

func (id *identity) cover(t *testing.T, c svcconf.Web) {
	t.Helper()
	if err := id.Cover(c); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateIsRenewedAndTheKeyStays(t *testing.T) {
	id := newIdentity(t)
	first, authority := id.Leaf(), id.Authority()
	id.now = id.now.AddDate(0, 6, 0)
	if !id.Leaf().Equal(first) {
		t.Error("it is renewed although it is good for half a year")
	}
	id.now = id.now.AddDate(0, 6, 0)
	second := id.Leaf()
	if second.Equal(first) || second.NotAfter.Before(id.now.AddDate(1, 0, 0)) {
		t.Errorf("it is good until %s", second.NotAfter)
	}
	if access.FingerprintOf(second) != access.FingerprintOf(first) || !id.Authority().Equal(authority) {
		t.Error("the key or the authority is another")
	}
	id.open(t)
	if !id.Leaf().Equal(second) {
		t.Error("what was renewed is not kept")
	}
	// The clock ran ahead, and is put right.
	id.now = time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC)
	if leaf := id.Leaf(); leaf.NotBefore.After(id.now) {
		t.Errorf("it begins at %s", leaf.NotBefore)
	}
}

func TestBoxWithoutAClockGetsACertificateThatIsGoodLater(t *testing.T) {
	id := &identity{dir: t.TempDir(), now: time.Unix(100, 0)}
	id.open(t)
	id.now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	if leaf := id.Leaf(); leaf.NotAfter.Before(id.now) {
		t.Errorf("it ended at %s", leaf.NotAfter)
	}
}

func TestOtherNamesTakeAnotherAuthority(t *testing.T) {
	id := newIdentity(t)
	was := id.Authority()
	id.cover(t, svcconf.Web{Name: "gw", Domain: "home.arpa", Listen: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}})
	if !id.Authority().Equal(was) || id.Leaf().VerifyHostname("10.0.0.1") != nil {
		t.Error("another private address takes another authority")
	}
	id.cover(t, svcconf.Web{Name: "gate", Domain: "home.arpa"})
	if id.Authority().Equal(was) || id.Leaf().VerifyHostname("gate.home.arpa") != nil || id.Leaf().CheckSignatureFrom(id.Authority()) != nil {
		t.Error("the new name is not vouched for")
	}
}
