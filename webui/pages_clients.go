//go:build linux

package webui

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"software.sslmate.com/src/go-pkcs12"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// clientPages are about the certificates that browsers show. For a while, who has come in by
// a code sees and makes their own without one.
var clientPages = []page{
	{"GET /account/certificates", member, "Your client certificates", false, (*visit).clientsPage},
	{"POST /account/certificates", member, "", false, (*visit).makeClient},
	{"POST /account/certificates/{id}/revoke", member, "", false, (*visit).revokeClient},
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
	Name, Kind    string // of who has it
	Made, Expires when
	This          bool // the browser has shown it
}

func (v *visit) clientRows(list []clientCert) (rows []clientRow) {
	here, _ := v.s.clients.shown(v.TLS)
	for _, c := range list {
		rows = append(rows, clientRow{c.ID, c.Label, c.Holder.Name, string(c.Holder.Kind), v.when(c.Made), v.when(c.Expires), c.ID == here.ID})
	}
	return rows
}

func (v *visit) clientsPage() error { return v.showClients(http.StatusOK, "", nil) }

func (v *visit) showClients(status int, label string, problem error) error {
	view := clientsView{Required: v.s.conf.Load().ClientCertificates, Label: label, Clients: v.clientRows(v.s.clients.of(v.caller.Holder()))}
	if problem != nil {
		view.Error = problem.Error()
	}
	return v.showAs(status, "clients", view)
}

const minBundlePassword = 8 // characters

// checkBundlePassword reports what is wrong with the password of a file, in which it is a
// BMPString: UCS-2 (RFC 7292, appendix B.1).
func checkBundlePassword(p string) error {
	if utf8.RuneCountInString(p) < minBundlePassword {
		return errBundlePassword
	}
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r > 0xffff }) {
		return errBundleRune
	}
	return nil
}

// makeClient makes a key and a certificate, and hands both over in a file that browsers and
// systems take, locked by a password (RFC 7292). The key is kept nowhere else.
func (v *visit) makeClient() error {
	form, err := v.form(maxForm)
	if err != nil {
		return err
	}
	label, password := strings.TrimSpace(form.Get("label")), form.Get("password")
	if err := checkBundlePassword(password); err != nil {
		return v.showClients(http.StatusUnprocessableEntity, label, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := v.s.makeCertificate(v.Context(), v.asker(), v.caller.Holder(), label, key.Public())
	if errors.Is(err, auth.ErrAway) {
		return err
	} else if err != nil {
		return v.showClients(http.StatusUnprocessableEntity, label, err)
	}
	data, err := pkcs12.Modern.Encode(key, cert, []*x509.Certificate{v.s.clients.authority()}, password)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/x-pkcs12")
	v.w.Header().Set("Content-Disposition", `attachment; filename="bulkhead.p12"`)
	_, _ = v.w.Write(data) // a browser that left makes another
	return nil
}

func (v *visit) revokeClient() error {
	ok, err := v.revoke(func(c clientCert) bool { return c.Holder == v.caller.Holder() })
	if err != nil {
		return err
	}
	if !ok {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "You have no such certificate."}
	}
	return v.seeDone("/account/certificates", "client")
}

// allClientsView is everybody's certificates.
type allClientsView struct {
	Required bool
	Clients  []clientRow
}

func (v *visit) allClientsPage() error {
	if err := v.s.sweep(v.Context()); err != nil {
		return err
	}
	return v.show("allclients", allClientsView{v.s.conf.Load().ClientCertificates, v.clientRows(v.s.clients.all())})
}

func (v *visit) revokeAnyClient() error {
	ok, err := v.revoke(func(clientCert) bool { return true })
	if err != nil {
		return err
	}
	if !ok {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "There is no such certificate."}
	}
	return v.seeDone("/certificates", "client")
}

// revoke makes the certificate that the address names worth nothing.
func (v *visit) revoke(may func(clientCert) bool) (ok bool, err error) {
	cert, ok, err := v.s.clients.revoke(v.PathValue("id"), may)
	if ok && err == nil {
		v.s.noteCertificate(v.Context(), v.asker(), auth.CertificateNote{Revoked: true, Label: cert.Label, Of: cert.Holder.Identity()})
	}
	return ok, err
}

// makeCertificate makes a certificate for a key on somebody's behalf.
func (s *server) makeCertificate(ctx context.Context, by auth.Asker, h auth.Holder, label string, key crypto.PublicKey) (*x509.Certificate, error) {
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	cert, err := s.clients.issue(h, label, key)
	if err == nil {
		s.noteCertificate(ctx, by, auth.CertificateNote{Label: label, Of: h.Identity()})
	}
	return cert, err
}

// noteCertificate has authd write down what was done. That it could not be written undoes
// nothing.
func (s *server) noteCertificate(ctx context.Context, by auth.Asker, note auth.CertificateNote) {
	if err := s.access.Call(context.WithoutCancel(ctx), by, "POST", "/v1/audit/certificate", note, nil); err != nil {
		s.log.Error("the audit log lacks a client certificate", "label", note.Label, "of", note.Of, "revoked", note.Revoked, "err", err)
	}
}

// certify makes a certificate for a program, for a key that it has made itself.
func (s *server) certify(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.CertificateRequest](w, r)
	if !ok {
		return
	}
	cert, err := s.certificateFor(r.Context(), s.asker(r), callerOf(r).Holder(), in)
	switch {
	case errors.Is(err, auth.ErrAway):
		fail(w, http.StatusServiceUnavailable, noAuthd)
	case err != nil:
		fail(w, http.StatusUnprocessableEntity, err.Error())
	default:
		answer(w, access.CertificateAnswer{Certificate: cert})
	}
}

// certificateFor makes what a program has asked for.
func (s *server) certificateFor(ctx context.Context, by auth.Asker, h auth.Holder, in access.CertificateRequest) ([]byte, error) {
	req, err := x509.ParseCertificateRequest(in.Request)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	cert, err := s.makeCertificate(ctx, by, h, in.Label, req.PublicKey)
	if err != nil {
		return nil, err
	}
	return cert.Raw, nil
}
