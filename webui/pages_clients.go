//go:build linux

package webui

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"software.sslmate.com/src/go-pkcs12"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// clientPages are about the certificates that browsers show. They are open to who has come
// in by a code and has none yet.
var clientPages = []page{
	{"GET /account/certificates", member, "Client certificates", false, (*visit).clientsPage},
	{"POST /account/certificates", member, "", false, (*visit).makeClient},
	{"POST /account/certificates/{id}/revoke", member, "", false, (*visit).revokeClient},
}

// doors are the paths on the way to a certificate: those that take a code of the console or
// an invitation, of which each is good once, and what their pages are made of. The address
// of whether the box is there tells nothing else.
var doors = []string{"/claim", "/invitation", "/account/certificates", "/certificate", "/ca.crt", "/api/v1/claim", "/api/v1/health"}

// uncertified reports whether a request lacks the certificate that is asked for.
func (s *server) uncertified(r *http.Request) bool {
	if !s.conf.Load().ClientCertificates || strings.HasPrefix(r.URL.Path, "/static/") || slices.Contains(doors, r.URL.Path) {
		return false
	}
	_, ok := s.clients.holder(r.TLS)
	return !ok
}

const noCertificate = "this box asks for a client certificate, and none that is good was shown"

// askForCertificate says what is missing, to people and to programs.
func (s *server) askForCertificate(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		fail(w, http.StatusForbidden, noCertificate)
		return
	}
	v := &visit{Request: r, w: w, s: s, page: &page{title: "A certificate is needed"}}
	_ = v.showAs(http.StatusForbidden, "uncertified", nil)
}

// certified checks, where certificates are asked for, that the visitor has shown one of
// their own: somebody else's browser is somebody else's.
func (v *visit) certified() error {
	if !v.s.conf.Load().ClientCertificates {
		return nil
	}
	cert, ok := v.s.clients.holder(v.TLS)
	if ok && cert.User != v.caller.Name {
		return &auth.Refusal{Status: http.StatusForbidden, Why: "The certificate of this browser is that of " + cert.User + "."}
	}
	if ok || v.page.need != member {
		return nil
	}
	// Who came in by a password could have it from anybody.
	var sessions []access.Session
	if err := v.auth("GET", "/v1/me/sessions", nil, &sessions); err != nil {
		return err
	}
	for _, s := range sessions {
		if s.ID == v.caller.Session && (s.How == "claim" || s.How == "invitation") {
			return nil
		}
	}
	return &auth.Refusal{Status: http.StatusForbidden, Why: "Who has no certificate yet makes one after coming in by a code from the console, or by an invitation."}
}

// clientsView is a user's certificates, and the form for another.
type clientsView struct {
	Required bool
	Clients  []clientRow
	Label    string // as it was typed
	Error    string
}

type clientRow struct {
	ID, Label     string
	Made, Expires when
	This          bool // the browser has shown it
}

func (v *visit) clientsPage() error { return v.showClients(http.StatusOK, "", nil) }

func (v *visit) showClients(status int, label string, problem error) error {
	view := clientsView{Required: v.s.conf.Load().ClientCertificates, Label: label}
	if problem != nil {
		view.Error = problem.Error()
	}
	here, _ := v.s.clients.holder(v.TLS)
	for _, c := range v.s.clients.of(v.caller.Name) {
		view.Clients = append(view.Clients, clientRow{c.ID, c.Label, v.when(c.Made), v.when(c.Expires), c.ID == here.ID})
	}
	return v.showAs(status, "clients", view)
}

const minBundlePassword = 8 // characters

// makeClient makes a key and a certificate, and hands both over in a file that browsers and
// systems take, locked by a password (RFC 7292). The key is kept nowhere else.
func (v *visit) makeClient() error {
	form, err := v.form(maxForm)
	if err != nil {
		return err
	}
	label, password := strings.TrimSpace(form.Get("label")), form.Get("password")
	if utf8.RuneCountInString(password) < minBundlePassword {
		return v.showClients(http.StatusUnprocessableEntity, label, errBundlePassword)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := v.s.clients.issue(v.caller.Name, label, key.Public())
	if err != nil {
		return v.showClients(http.StatusUnprocessableEntity, label, err)
	}
	data, err := pkcs12.Modern.Encode(key, cert, []*x509.Certificate{v.s.clients.authority()}, password)
	if err != nil {
		return err
	}
	v.s.log.Info("client certificate made", "user", v.caller.Name, "label", label, "from", v.RemoteAddr)
	v.w.Header().Set("Content-Type", "application/x-pkcs12")
	v.w.Header().Set("Content-Disposition", `attachment; filename="bulkhead.p12"`)
	_, _ = v.w.Write(data) // a browser that left makes another
	return nil
}

func (v *visit) revokeClient() error {
	ok, err := v.s.clients.revoke(v.caller.Name, v.PathValue("id"))
	if err != nil {
		return err
	}
	if !ok {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "You have no such certificate."}
	}
	v.s.log.Info("client certificate revoked", "user", v.caller.Name, "id", v.PathValue("id"), "from", v.RemoteAddr)
	return v.seeDone("/account/certificates", "client")
}

// certify makes a certificate for a program, for a key that it has made itself.
func (s *server) certify(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.CertificateRequest](w, r)
	if !ok {
		return
	}
	caller, err := s.access.Check(r.Context(), auth.Bearer(r), "")
	if err != nil { // it has been revoked since it was looked at
		fail(w, http.StatusUnauthorized, err.Error())
		return
	}
	req, err := x509.ParseCertificateRequest(in.Request)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, "the request: "+err.Error())
		return
	}
	cert, err := s.clients.issue(caller.Name, in.Label, req.PublicKey)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.log.Info("client certificate made", "token", caller.Name, "label", in.Label, "from", r.RemoteAddr)
	answer(w, access.CertificateAnswer{Certificate: cert.Raw})
}
