//go:build linux

package webui_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"bulkhead/services/auth/access"
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

// shows has the browser show a certificate.
func (w *browser) shows(cert ...tls.Certificate) {
	t := w.client.Transport.(*http.Transport)
	t.CloseIdleConnections()
	t = t.Clone()
	t.TLSClientConfig.Certificates = cert
	w.client.Transport = t
}

func TestCertificatesAreAskedForWhereTheConfigurationSaysSo(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	alex := b.owner()
	secret := alex.setPassword()
	kim := alex.as("kim", access.Operator)
	token := b.token(alex).Secret
	alexes, kims := alex.certificate("laptop"), kim.certificate("phone")

	required := conf1
	required.ClientCertificates = true
	b.configure(required)
	b.eventually("certificates are asked for", func() bool { return b.browser().get("/login").StatusCode == http.StatusForbidden })

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

// A certificate of another authority, or for another purpose, is none.
func TestForeignCertificateIsNone(t *testing.T) {
	b, other := newBox(t), newBox(t)
	required := conf1
	required.ClientCertificates = true
	other.start(conf1)
	foreign := other.owner().certificate("laptop")
	b.start(required)
	w := b.owner()
	w.shows(foreign)
	if _, err := w.client.Get(b.url("127.0.0.1") + "/account"); err == nil {
		t.Error("another box's certificate is taken")
	}
}

func TestProgramsShowCertificates(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	if err := p.Certify(t.Context(), "laptop"); err != nil {
		t.Fatal(err)
	}
	required := conf1
	required.ClientCertificates = true
	b.configure(required)
	without := *p
	without.Certificate = nil
	b.eventually("certificates are asked for", func() bool {
		err := remote.New(&without).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil)
		var e *remote.Error
		return errors.As(err, &e) || err != nil && strings.Contains(err.Error(), "client certificate")
	})
	if err := remote.New(p).Call(t.Context(), "GET", "/v1/openapi.json", nil, nil); err != nil {
		t.Error(err)
	}
	for _, label := range []string{"", strings.Repeat("x", 61), "a\x00b"} {
		if err := p.Certify(t.Context(), label); err == nil {
			t.Errorf("a label of %q is taken", label)
		}
	}
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
