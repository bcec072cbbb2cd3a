//go:build linux

package webui_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"bulkhead/services/auth/access"
	"bulkhead/services/auth/authtest"
	"bulkhead/services/run"
	"bulkhead/webui/remote"
)

const bundlePassword = "correct horse"

// certificate has the browser's user make a certificate, and returns it as a browser reads it.
func (w *browser) certificate(label string) tls.Certificate {
	w.b.t.Helper()
	v := w.post("/account/certificates", url.Values{"label": {label}, "password": {bundlePassword}})
	if v.StatusCode != http.StatusOK || v.Header.Get("Content-Type") != "application/x-pkcs12" {
		w.b.t.Fatalf("got %d\n%s", v.StatusCode, v.body)
	}
	key, cert, _, err := pkcs12.DecodeChain([]byte(v.body), bundlePassword)
	if err != nil {
		w.b.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// shows has the browser show a certificate, whoever the box says that it knows.
func (w *browser) shows(cert ...tls.Certificate) {
	t := w.client.Transport.(*http.Transport)
	t.CloseIdleConnections()
	t = t.Clone()
	t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(cert) == 0 {
			return new(tls.Certificate), nil
		}
		return &cert[0], nil
	}
	w.client.Transport = t
}

// asksForCertificates has the configuration do so, and waits until it is followed.
func (b *box) asksForCertificates() {
	b.t.Helper()
	required := conf1
	required.ClientCertificates = true
	b.configure(required)
	b.eventually("certificates are asked for", func() bool { return b.browser().get("/login").StatusCode == http.StatusForbidden })
}

// asksForNone has it ask for none again.
func (b *box) asksForNone() {
	b.t.Helper()
	b.configure(conf1)
	b.eventually("no certificates are asked for", func() bool { return b.browser().get("/login").StatusCode != http.StatusForbidden })
}

// barred checks that a page is refused for want of a certificate, and why.
func (v view) barred(t *testing.T, what, why string) {
	t.Helper()
	if v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, "This box asks for a client certificate, and "+why) || !v.Close {
		t.Errorf("%s: got %d, closing: %v\n%s", what, v.StatusCode, v.Close, v.body)
	}
}

func TestCertificatesAreAskedForWhereTheConfigurationSaysSo(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	secret := alex.setPassword()
	kim := alex.as("kim", access.Operator)
	token := b.token(alex).Secret
	alexes, kims := alex.certificate("laptop"), kim.certificate("phone")

	b.asksForCertificates()

	// Neither a session nor a password nor a token opens a door without one.
	for _, path := range []string{"/", "/users", "/login", "/account", "/nowhere"} {
		if v := alex.get(path); v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, "certificate") {
			t.Errorf("%s: got %d\n%s", path, v.StatusCode, v.body)
		}
	}
	if v := b.browser().post("/login", url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(30 * time.Second))}}); v.StatusCode != http.StatusForbidden {
		t.Errorf("a login without a certificate: got %d", v.StatusCode)
	}
	if resp, _ := b.raw("GET", b.url("127.0.0.1")+"/api/v1/openapi.json", "", http.Header{"Authorization": {"Bearer " + token}}, ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a token without a certificate: got %d", resp.StatusCode)
	}

	alex.shows(alexes)
	if v := alex.get("/account/certificates"); v.StatusCode != http.StatusOK || !strings.Contains(v.body, "laptop <small>(this browser)") {
		t.Errorf("with a certificate: got %d\n%s", v.StatusCode, v.body)
	}
	// It opens nothing by itself, and is its user's.
	fresh := b.browser()
	fresh.shows(alexes)
	fresh.leads(fresh.get("/account"), "/login?next=%2Faccount")
	alex.shows(kims)
	if v := alex.get("/account"); v.StatusCode != http.StatusForbidden {
		t.Errorf("with somebody else's: got %d", v.StatusCode)
	}
	alex.shows(alexes)

	// A certificate that was revoked is worth nothing, over a connection that is there as well.
	kim.shows(kims)
	page := kim.get("/account/certificates")
	id := regexp.MustCompile(`/account/certificates/([0-9a-f]+)/revoke`).FindStringSubmatch(page.body)
	if id == nil {
		t.Fatal(page.body)
	}
	if v := alex.post("/account/certificates/"+id[1]+"/revoke", nil); v.StatusCode != http.StatusNotFound {
		t.Errorf("somebody else revokes it: got %d", v.StatusCode)
	}
	if v := kim.post("/account/certificates/"+id[1]+"/revoke", nil); v.StatusCode != http.StatusSeeOther {
		t.Errorf("revoke: got %d", v.StatusCode)
	}
	if v := kim.get("/account"); v.StatusCode != http.StatusForbidden {
		t.Errorf("after that: got %d", v.StatusCode)
	}

	// Who has lost theirs makes one after a code of the console, and not after a password.
	lost := b.browser()
	lost.header.Set("Accept", "text/html")
	lost.leads(lost.post("/claim", url.Values{"name": {"alex"}, "code": {b.control("POST").Code}}), "/account")
	if v := lost.get("/account"); v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, "/account/certificates") {
		t.Errorf("after the code: got %d", v.StatusCode)
	}
	lost.shows(lost.certificate("new laptop"))
	if v := lost.get("/account"); v.StatusCode != http.StatusOK {
		t.Errorf("with the new one: got %d", v.StatusCode)
	}
	// A session that began by a password, with the certificate taken out of the browser.
	by := b.browser()
	by.shows(alexes)
	by.leads(by.post("/login", url.Values{"user": {"alex"}, "password": {passphrase}, "code": {secret.Code(time.Now().Add(30 * time.Second))}}), "/")
	by.shows()
	if v := by.post("/account/certificates", url.Values{"label": {"x"}, "password": {bundlePassword}}); v.StatusCode != http.StatusForbidden {
		t.Errorf("a certificate for a password: got %d", v.StatusCode)
	}
	if log := b.log.String(); strings.Contains(log, bundlePassword) {
		t.Error("the password of a file is in the log")
	}
}

// Whoever takes a session away later must neither make a way in of it nor close the others.
func TestSessionOfACodeMakesCertificatesForAWhileAndRevokesNone(t *testing.T) {
	b := newBox(t)
	var ahead atomic.Int64
	b.o.SetClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	b.start(conf1)
	alex := b.owner()
	kim := alex.as("kim", access.Operator)
	kims, alexes := kim.certificate("phone"), alex.certificate("laptop")
	b.asksForCertificates()
	form := url.Values{"label": {"mine"}, "password": {bundlePassword}}
	ids := regexp.MustCompile(`/account/certificates/([0-9a-f]+)/revoke`)
	for name, w := range map[string]*browser{"a claim": alex, "an invitation": kim} {
		id := ids.FindStringSubmatch(w.get("/account/certificates").body)
		if id == nil {
			t.Fatalf("%s: no certificate is listed", name)
		}
		revoke := "/account/certificates/" + id[1] + "/revoke"
		w.header.Set("Accept", "text/html")
		w.post(revoke, nil).barred(t, name+" revokes without one", "none was shown")
		for _, wrong := range []time.Duration{16 * time.Minute, -16 * time.Minute} {
			ahead.Store(int64(wrong))
			for _, v := range []view{w.get("/account/certificates"), w.post("/account/certificates", form)} {
				if v.StatusCode != http.StatusForbidden || !strings.Contains(v.body, "within 15 minutes") || strings.Contains(v.body, id[1]) {
					t.Errorf("%s after %v: got %d\n%s", name, wrong, v.StatusCode, v.body)
				}
			}
		}
		ahead.Store(int64(14 * time.Minute))
		if v := w.post("/account/certificates", form); v.StatusCode != http.StatusOK {
			t.Errorf("%s after 14 minutes: got %d\n%s", name, v.StatusCode, v.body)
		}
		ahead.Store(0)
	}
	// Nor does somebody else's certificate revoke.
	id := ids.FindStringSubmatch(alex.get("/account/certificates").body)
	alex.shows(kims)
	alex.post("/account/certificates/"+id[1]+"/revoke", nil).barred(t, "under another's", "the one that was shown is that of user:kim")
	ahead.Store(int64(16 * time.Minute))
	alex.shows(alexes)
	if v := alex.post("/account/certificates/"+id[1]+"/revoke", nil); v.StatusCode != http.StatusSeeOther {
		t.Errorf("with one of their own: got %d", v.StatusCode)
	}
}

// A certificate that is made must come with its file: it would take a place, and be nobody's.
func TestPasswordThatTheFileCannotHaveIsRefusedFirst(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	for _, password := range []string{"correct 🐎 horse", "correct \xff horse"} {
		v := alex.post("/account/certificates", url.Values{"label": {"laptop"}, "password": {password}})
		if v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "a character that the file cannot have there") {
			t.Errorf("%q: got %d\n%s", password, v.StatusCode, v.body)
		}
	}
	if page := alex.get("/account/certificates").body; !strings.Contains(page, "You have none.") {
		t.Errorf("listed are\n%s", page)
	}
	v := alex.post("/account/certificates", url.Values{"label": {"laptop"}, "password": {"gefährliche 馬"}})
	if _, _, _, err := pkcs12.DecodeChain([]byte(v.body), "gefährliche 馬"); err != nil {
		t.Errorf("letters of other languages: got %d, %v", v.StatusCode, err)
	}
}

// A box that once believed that it was years later locks nobody out.
func TestWrongClockCostsNobodyTheirCertificate(t *testing.T) {
	b := newBox(t)
	var ahead atomic.Int64
	b.o.SetClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	b.start(conf1)
	alex := b.owner()
	alexes := alex.certificate("laptop")
	kim := alex.as("kim", access.Viewer)
	for range 16 {
		kim.certificate("phone")
	}
	ahead.Store(int64(20 * 365 * 24 * time.Hour))
	kims := kim.certificate("new phone") // all of them have ended: one makes room
	ahead.Store(0)
	page := alex.get("/certificates").body
	if of := strings.Count(page, ">user kim</td>"); of != 16 || !strings.Contains(page, "new phone") || !strings.Contains(page, ">user alex</td>") {
		t.Errorf("%d of kim are listed:\n%s", of, page)
	}
	if v := kim.post("/account/certificates", url.Values{"label": {"phone"}, "password": {bundlePassword}}); v.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("one more, by the right clock: got %d", v.StatusCode)
	}
	b.asksForCertificates()
	for name, w := range map[string]*browser{"alex": alex, "kim": kim} {
		w.shows(map[string]tls.Certificate{"alex": alexes, "kim": kims}[name])
		if v := w.get("/account"); v.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d\n%s", name, v.StatusCode, v.body)
		}
	}
	// What has ended is worth nothing, though it is kept.
	ahead.Store(int64(3 * 365 * 24 * time.Hour))
	alex.header.Set("Accept", "text/html")
	alex.get("/account").barred(t, "one that has ended", "the one that was shown ended on ")
}

// Nor does one that believed so cost a token its own: it has expired, and may not have.
func TestCertificateOfAnExpiredTokenIsKeptAndLetsNobodyIn(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	ci := remote.Profile{URL: b.url("127.0.0.1"), Fingerprint: b.control("GET").Fingerprint, Token: b.token(b.owner()).Secret}
	if err := ci.Certify(t.Context(), "runner"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.o.State, "authd", access.File)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	required := conf1
	required.ClientCertificates = true
	// authd comes again, and reads other tokens.
	restart := func(tokens []byte) {
		t.Helper()
		b.stop() // which has connections
		b.stopAccess()
		if err := os.WriteFile(path, tokens, 0o600); err != nil {
			t.Fatal(err)
		}
		b.access, b.stopAccess = authtest.Start(t, run.Dirs{Run: b.o.Base, State: b.o.State}, slog.New(slog.NewTextHandler(b.log, nil)))
		b.start(required)
	}
	ask := func() error { return remote.New(&ci).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil) }
	restart(regexp.MustCompile(`"expires": "20[^"]+"`).ReplaceAll(good, []byte(`"expires": "2001-09-09T01:46:40Z"`)))
	if err := ask(); err == nil || !strings.Contains(err.Error(), "somebody who may not come in any more") {
		t.Errorf("expired: %v", err)
	}
	b.owner().certificate("laptop") // by which those who are gone are forgotten
	restart(good)
	if err := ask(); err != nil {
		t.Errorf("by the right clock: %v", err)
	}
}

// A certificate of another authority, or for another purpose, is none.
func TestForeignCertificateIsNone(t *testing.T) {
	b, other := newBox(t), newBox(t)
	required := conf1
	required.ClientCertificates = true
	other.start(conf1)
	foreign := other.owner().certificate("laptop")
	b.start(required)
	w := b.owner()
	w.header.Set("Accept", "text/html")
	w.shows(foreign)
	w.get("/account").barred(t, "another box's", "the one that was shown is not one that this box has made")
	// Nor is one of the box's own, for that matter: what counts is that it is on the list.
	w.shows(w.certificate("laptop"))
	if v := w.get("/account"); v.StatusCode != http.StatusOK {
		t.Errorf("one of the box's: got %d\n%s", v.StatusCode, v.body)
	}
	if err := os.Remove(filepath.Join(b.o.State, "clients.json")); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.start(required)
	w.get("/account").barred(t, "one that was forgotten", "the one that was shown is not one that this box has made")
}

func TestProgramsShowCertificates(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	if err := p.Certify(t.Context(), "laptop"); err != nil {
		t.Fatal(err)
	}
	b.asksForCertificates()
	without := *p
	without.Certificate = nil
	if err := remote.New(&without).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil); err == nil || !strings.Contains(err.Error(), "a new claim code at its console lets you in") {
		t.Errorf("without a certificate: %v", err)
	}
	if err := remote.New(p).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil); err != nil {
		t.Error(err)
	}
	for _, label := range []string{"", strings.Repeat("x", 65), "a\x00b"} {
		if err := p.Certify(t.Context(), label); err == nil {
			t.Errorf("a label of %q is taken", label)
		}
	}
}

// Whoever may look takes no more than their own share.
func TestEverybodyHasCertificatesOfTheirOwn(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	kim := alex.as("kim", access.Viewer)
	for range 16 {
		kim.certificate("phone")
	}
	if v := kim.post("/account/certificates", url.Values{"label": {"phone"}, "password": {bundlePassword}}); v.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(v.body, "you have 16 certificates") {
		t.Errorf("the 17th: got %d\n%s", v.StatusCode, v.body)
	}
	alex.certificate("laptop")
	p := b.claimedAgain()
	for range 16 {
		if err := p.Certify(t.Context(), "ci"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Certify(t.Context(), "ci"); err == nil || !strings.Contains(err.Error(), "you have 16 certificates") {
		t.Errorf("the 17th of a token: %v", err)
	}

	// An admin sees all of them, and revokes any.
	page := alex.get("/certificates").body
	if n := strings.Count(page, ">user kim</td>"); n != 16 || !strings.Contains(page, ">user alex</td>") || !strings.Contains(page, ">token alex</td>") {
		t.Errorf("%d of kim are listed:\n%s", n, page)
	}
	id := regexp.MustCompile(`(?s)>user kim</td>.*?/certificates/([0-9a-f]+)/revoke`).FindStringSubmatch(page)
	if id == nil {
		t.Fatal(page)
	}
	if v := kim.post("/certificates/"+id[1]+"/revoke", nil); v.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer revokes at the page for admins: got %d", v.StatusCode)
	}
	alex.leads(alex.post("/certificates/"+id[1]+"/revoke", nil), "/certificates?done=client")
	if v := alex.post("/certificates/"+id[1]+"/revoke", nil); v.StatusCode != http.StatusNotFound {
		t.Errorf("again: got %d", v.StatusCode)
	}
	kim.certificate("phone")
	var audit []string
	for _, line := range strings.Split(alex.get("/audit.csv").body, "\n") {
		if _, what, ok := strings.Cut(line, "client certificate "); ok {
			audit = append(audit, strings.Split(line, ",")[1]+" "+what)
		}
	}
	want := []string{"user:kim made,phone,of user:kim", "user:alex revoked,phone,of user:kim", "token:alex made,ci,of token:alex"}
	if len(audit) != 16+1+16+2 || !slices.Equal(audit[:3], want) {
		t.Errorf("the audit log has %d entries: %q", len(audit), audit)
	}
}

// What is removed does not come back by a name.
func TestCertificatesGoWithTheirOwner(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	token := b.token(alex)
	kims, alexes := alex.as("kim", access.Operator).certificate("phone"), alex.certificate("laptop")
	ci := remote.Profile{URL: b.url("127.0.0.1"), Fingerprint: b.control("GET").Fingerprint, Token: token.Secret}
	if err := ci.Certify(t.Context(), "runner"); err != nil {
		t.Fatal(err)
	}
	b.asksForCertificates()
	alex.shows(alexes)
	id := regexp.MustCompile(`/tokens/([0-9a-f]+)/revoke`).FindStringSubmatch(alex.get("/tokens").body)
	if id == nil {
		t.Fatal("the token is not listed")
	}
	alex.leads(alex.post("/users/kim/remove", nil), "/users?done=user")
	alex.leads(alex.post("/tokens/"+id[1]+"/revoke", nil), "/tokens?done=token")

	w := b.browser()
	w.header.Set("Accept", "text/html")
	w.shows(kims)
	w.get("/login").barred(t, "the certificate of a user who is gone", "the one that was shown is that of somebody who may not come in any more")

	// The next of the name is another.
	again := alex.as("kim", access.Viewer)
	again.header.Set("Accept", "text/html")
	again.shows(kims)
	again.get("/account").barred(t, "the certificate of another kim", "the one that was shown is that of somebody who may not come in any more")
	if v := again.get("/account/certificates"); strings.Contains(v.body, "phone") {
		t.Errorf("another kim has it:\n%s", v.body)
	}
	// Once that is looked at, it is forgotten.
	if v := alex.get("/certificates"); strings.Contains(v.body, "phone") || strings.Contains(v.body, "runner") || !strings.Contains(v.body, "laptop") {
		t.Errorf("listed are\n%s", v.body)
	}
	again.get("/account").barred(t, "after that", "the one that was shown is not one that this box has made")
}

func TestTokensShowTheirOwnCertificates(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	owner := b.claimedAgain()
	if err := owner.Certify(t.Context(), "laptop"); err != nil {
		t.Fatal(err)
	}
	token := b.token(alex).Secret
	kims := alex.as("kim", access.Viewer).certificate("phone")
	b.asksForCertificates()
	ask := func(p *remote.Profile) error {
		return remote.New(p).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil)
	}
	if err := ask(owner); err != nil {
		t.Error(err)
	}
	ci := *owner
	ci.Token = token
	if err := ask(&ci); err == nil || !strings.Contains(err.Error(), "the one that was shown is that of token:alex") {
		t.Errorf("a token over another's certificate: %v", err)
	}
	// The first of a token is made over an admin's, and over nobody else's.
	viewers := ci
	key, err := x509.MarshalPKCS8PrivateKey(kims.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	viewers.Certificate, viewers.Key = kims.Certificate[0], key
	if err := viewers.Certify(t.Context(), "runner"); err == nil || !strings.Contains(err.Error(), "that of user:kim") {
		t.Errorf("the first certificate of a token, over a viewer's: %v", err)
	}
	first := ci
	if err := first.Certify(t.Context(), "runner"); err != nil {
		t.Fatal(err)
	}
	if err := ask(&first); err != nil {
		t.Error(err)
	}
	if err := ci.Certify(t.Context(), "runner"); err == nil {
		t.Error("the second one as well")
	}
	// And of itself, before it ends.
	if err := first.Certify(t.Context(), "runner"); err != nil {
		t.Error(err)
	}
	// A session at the API is its user's.
	session := *owner
	session.Token = alex.secret()
	if err := ask(&session); err == nil {
		t.Error("a session over a token's certificate is let in")
	}
}

// Whoever stands at the console gets in again, whatever was lost.
func TestClaimingBringsACertificate(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	if p := b.claimed(); p.Certificate != nil {
		t.Error("a certificate is made that nobody asks for")
	}
	b.asksForCertificates()
	p := b.claimedAgain()
	if err := remote.New(p).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil); err != nil {
		t.Error(err)
	}
	if until := time.Until(p.CertificateEnds()); until < 700*24*time.Hour {
		t.Errorf("it is good for %v", until)
	}
	if err := p.Certify(t.Context(), "again"); err != nil {
		t.Error(err)
	}
}

// What a box makes before it knows the time must be good when it does.
func TestCertificateOfABoxWithoutAClockIsGoodLater(t *testing.T) {
	b := newBox(t)
	built := time.Now().AddDate(20, 0, 0)
	if err := os.WriteFile(b.o.Image, fmt.Appendf(nil, `{"built": %q}`, built.Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(conf1)
	if ends := b.owner().certificate("laptop").Leaf.NotAfter; ends.Before(built.AddDate(1, 11, 0)) {
		t.Errorf("it ends on %v, while the image is of %v", ends, built)
	}
}

// A certificate that has ended breaks no handshake: there is a page to be read.
func TestRefusalSaysWhatIsWrong(t *testing.T) {
	b, _ := newTrialBox(t)
	b.start(conf1)
	alex := b.owner()
	code := alex.setPassword()
	alex.tries("new\n")
	if v := alex.get("/account"); !strings.Contains(v.body, "A change by alex is being tried") {
		t.Fatalf("no change is being tried:\n%s", v.body)
	}
	kims, alexes := alex.as("kim", access.Viewer).certificate("phone"), alex.certificate("laptop")
	if from := alexes.Leaf.NotBefore; from.Year() != 1970 {
		t.Errorf("a client without a clock has to wait until %v", from)
	}
	b.asksForCertificates()
	w := b.browser()
	w.header.Set("Accept", "text/html")
	w.shows()
	v := w.get("/login")
	v.barred(t, "none", "none was shown.")
	if !strings.Contains(v.body, "new claim code") || strings.Contains(v.body, "undo the last change") {
		t.Errorf("the advice is\n%s", v.body)
	}
	w.shows(endedCertificate(t))
	w.get("/login").barred(t, "one that has ended", "the one that was shown ended on 2001-09-09.")

	// Under somebody else's, nobody learns what the box does, and anybody goes, whatever
	// they came in by.
	alex.shows(alexes)
	alex.post("/logout", nil)
	alex.leads(alex.post("/login", url.Values{"user": {"alex"}, "password": {passphrase}, "code": {code.Code(time.Now().Add(30 * time.Second))}}), "/")
	alex.header.Set("Accept", "text/html")
	alex.shows(kims)
	v = alex.get("/account")
	v.barred(t, "somebody else's", "the one that was shown is that of user:kim.")
	if strings.Contains(v.body, "<nav") || strings.Contains(v.body, "being tried") || !strings.Contains(v.body, `action="/logout"`) {
		t.Errorf("the page shows\n%s", v.body)
	}
	if v := alex.get("/login"); v.StatusCode != http.StatusOK || !strings.Contains(v.body, `name="password"`) {
		t.Errorf("nobody else can log in: got %d\n%s", v.StatusCode, v.body)
	}
	secret := alex.secret()
	alex.leads(alex.post("/logout", nil), "/login?done=logout")
	if _, err := b.access.Check(t.Context(), secret, ""); err == nil {
		t.Error("the session goes on")
	}
}

// endedCertificate is one of some authority that nobody knows.
func endedCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A connection that is there already can show no certificate: it ends with the refusal, so
// that what comes next comes over another.
func TestRefusalEndsTheConnection(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	cert := alex.certificate("laptop")
	c := b.two("gw.home.arpa")
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
	ask := func() (status int, local string) {
		t.Helper()
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { local = i.Conn.LocalAddr().String() }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", b.url("127.0.0.1")+"/account", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.AddCookie(&http.Cookie{Name: "__Host-bulkhead", Value: alex.secret()})
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s: %v", resp.Proto, err)
		}
		return resp.StatusCode, local
	}
	before, first := ask()
	b.asksForCertificates()
	refused, same := ask()
	if before != http.StatusOK || refused != http.StatusForbidden || same != first {
		t.Fatalf("got %d over %s, then %d over %s", before, first, refused, same)
	}
	b.eventually("the browser is let in over another connection", func() bool {
		status, next := ask()
		return status == http.StatusOK && next != first
	})
}

// OpenSSL reads the file as well, and finds in it what it should hold.
func TestOpenSSLReadsTheFile(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	b := newBox(t)
	b.start(conf1)
	v := b.owner().post("/account/certificates", url.Values{"label": {"laptop"}, "password": {bundlePassword}})
	file := filepath.Join(t.TempDir(), "bulkhead.p12")
	if err := os.WriteFile(file, []byte(v.body), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), openssl, "pkcs12", "-in", file, "-passin", "pass:"+bundlePassword, "-nodes", "-info").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PRIVATE KEY") || !strings.Contains(string(out), "laptop") || !strings.Contains(string(out), "AES-256") {
		t.Errorf("%v\n%s", err, out)
	}
}

// certRequest asks for a certificate for a new key.
func certRequest(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	if err != nil {
		t.Fatal(err)
	}
	return request
}
