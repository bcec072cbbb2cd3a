//go:build linux

package webui

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	"bulkhead/webui/openapitest"
)

// OpenAPI is the document that is served.
var OpenAPI = openapi

// Failure is the type of the body of answers that are none.
var Failure = reflect.TypeFor[failure]()

// Endpoints returns the API in the words of the document.
func Endpoints() []openapitest.Operation {
	var list []openapitest.Operation
	for _, e := range endpoints {
		op := openapitest.Operation{Method: e.method(), Path: e.path(), Query: e.query(), Scope: string(e.scope), Summary: e.summary, Refuses: e.statuses()}
		if l, ok := e.out.(lines); ok {
			op.Out, op.Lines = reflect.TypeOf(l.of), true
		} else if f, ok := e.out.(download); ok {
			op.File = f.media
		} else if e.out != nil {
			op.Out = reflect.TypeOf(e.out)
		}
		if _, op.Upload = e.in.(image); e.in != nil && !op.Upload {
			op.In = reflect.TypeOf(e.in)
		}
		list = append(list, op)
	}
	return list
}

// Pages returns what the pages are asked by.
func Pages() (list []string) {
	for _, p := range allPages() {
		list = append(list, p.ask)
	}
	return list
}

// Titles returns the pages that have a title of their own, by what they are asked by.
func Titles() map[string]string {
	list := map[string]string{}
	for _, p := range allPages() {
		list[p.ask] = p.title
	}
	return list
}

// Identity is how the box shows who it is.
type Identity struct{ *identity }

// OpenIdentity reads or makes one.
func OpenIdentity(dir string, log *slog.Logger, now func() time.Time) (*Identity, error) {
	id, err := openIdentity(dir, log, now)
	return &Identity{id}, err
}

// Cover makes the certificate one for a configuration.
func (id *Identity) Cover(c svcconf.Web) error { return id.cover(c) }

// Leaf is the certificate that a client is shown.
func (id *Identity) Leaf() *x509.Certificate {
	c, _ := id.certificate(nil)
	return c.Leaf
}

// Authority is who has signed it.
func (id *Identity) Authority() *x509.Certificate { return id.authority() }

// Vouches reports whether a browser that knows the authority believes a certificate that
// was signed with its key.
func (id *Identity) Vouches(t *testing.T, name string) bool {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: id.now().Add(-time.Hour), NotAfter: id.now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	template.DNSNames, template.IPAddresses = split([]string{name})
	der, err := x509.CreateCertificate(rand.Reader, template, id.issuer.cert, id.key.Public(), id.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(id.issuer.cert)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: id.now()})
	return err == nil
}

// PassOn returns a handler that passes requests on to who listens at an address. A body may
// stand still for so long.
func PassOn(address string, log *slog.Logger, idle time.Duration) http.Handler {
	way := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
	return passOn(daemon{name: "stand-in", way: way, limit: maxPassed, idle: idle}, log)
}

// FirstFile makes a configuration out of the answers in a form.
func FirstFile(ports []api.Port, form url.Values) (string, []string) {
	s := setupIn(form)
	return s.file(ports)
}

// SetPageTime sets how long a page may take.
func (o *Options) SetPageTime(d time.Duration) { o.page = d }

// SetClock sets the clock by which certificates are good.
func (o *Options) SetClock(now func() time.Time) { o.now = now }
