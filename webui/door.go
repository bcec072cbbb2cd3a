//go:build linux

package webui

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// Where the configuration asks for client certificates, there are two doors. At the first,
// [server.protect] looks whether a good one was shown, whoever asks for whatever. At the
// second, where who asks is known, it has to be theirs.

// ownCertificates is the page at which people make theirs. Revoking is no door: nobody takes
// away a way in who has not come in by one.
const ownCertificates = "/account/certificates"

// doors are the paths that are open without a certificate: those that take a code of the
// console or an invitation, of which each is good once, what their pages are made of, and
// the way out. The address of whether the box is there tells nothing else.
var doors = []string{"/claim", "/invitation", ownCertificates, "/certificate", "/ca.crt", "/logout", "/api/v1/claim", "/api/v1/health"}

func isDoor(path string) bool {
	return slices.Contains(doors, path) || strings.HasPrefix(path, "/static/")
}

// barred says why a client gets no further.
type barred struct{ why error }

func (b *barred) Error() string {
	return "this box asks for a client certificate, and " + b.why.Error()
}
func (b *barred) Unwrap() error { return b.why }

// admitted returns a [*barred] if a request lacks the certificate that is asked for. Whose it
// is has to be there still: a user who was removed takes theirs along.
func (s *server) admitted(r *http.Request) error {
	if !s.conf.Load().ClientCertificates || isDoor(r.URL.Path) {
		return nil
	}
	cert, err := s.clients.shown(r.TLS)
	if err != nil {
		return &barred{err}
	}
	there, err := s.present(r.Context(), []auth.Holder{cert.Holder})
	if err != nil {
		return err
	}
	if len(there) == 0 || len(there[0].Scopes) == 0 {
		return &barred{errGone}
	}
	return nil
}

// present returns those of the holders that are still there.
func (s *server) present(ctx context.Context, list []auth.Holder) (there []auth.Holding, err error) {
	for some := range slices.Chunk(list, auth.MaxHolders) {
		var found []auth.Holding
		if err := s.access.Call(ctx, auth.Asker{}, "POST", "/v1/holders", auth.Holders{Holders: some}, &found); err != nil {
			return nil, err
		}
		there = append(there, found...)
	}
	return there, nil
}

// sweep forgets the certificates of users and tokens that are gone.
func (s *server) sweep(ctx context.Context) error {
	list := s.clients.holders()
	there, err := s.present(ctx, list)
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(list, func(h auth.Holder) bool {
		return slices.ContainsFunc(there, func(x auth.Holding) bool { return x.Holder == h })
	})
	return s.clients.forget(gone)
}

// stop says what is missing at the first door, to people and to programs.
func (s *server) stop(w http.ResponseWriter, r *http.Request, err error) {
	if isProgram(r) {
		s.stopProgram(w, r, err)
		return
	}
	v := &visit{Request: r, w: w, s: s, page: &page{title: "A certificate is needed", need: everybody}}
	v.refuse(err)
}

func isProgram(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || !strings.Contains(r.Header.Get("Accept"), "text/html")
}

func (s *server) stopProgram(w http.ResponseWriter, r *http.Request, err error) {
	if no, ok := errors.AsType[*barred](err); ok {
		s.noteBarred(w, r, no)
		fail(w, http.StatusForbidden, no.Error()+": without one, a new claim code at its console lets you in (bulkhead claim)")
		return
	}
	fail(w, http.StatusServiceUnavailable, noAuthd)
}

// noteBarred has the client open a new connection for what comes next: over this one it can
// show no other certificate.
func (s *server) noteBarred(w http.ResponseWriter, r *http.Request, no *barred) {
	s.refused.warn("no certificate", "from", r.RemoteAddr, "path", r.URL.Path, "why", no.why)
	w.Header().Set("Connection", "close")
}

// barredView says what is missing, to people.
type barredView struct{ Why string }

func (barredView) title() string { return "A certificate is needed" }

// foreign returns a [*barred] unless who asks has shown a certificate of their own, where
// certificates are asked for: somebody else's is somebody else's.
func (s *server) foreign(r *http.Request, caller auth.Caller) error {
	if !s.conf.Load().ClientCertificates {
		return nil
	}
	cert, err := s.clients.shown(r.TLS)
	if err == nil && cert.Holder != caller.Holder() {
		err = errors.New("the one that was shown is that of " + cert.Holder.Identity())
	}
	if err != nil {
		return &barred{err}
	}
	return nil
}

// admitsProgram is foreign for the API. Who makes tokens may have the first certificate of
// each made over their own connection: a token that has none could never come to one.
func (s *server) admitsProgram(r *http.Request, caller auth.Caller) error {
	err := s.foreign(r, caller)
	if err == nil || r.URL.Path != certificatesPath || caller.Kind != auth.ByToken || len(s.clients.of(caller.Holder())) > 0 {
		return err
	}
	cert, none := s.clients.shown(r.TLS)
	if none != nil {
		return err
	}
	there, away := s.present(r.Context(), []auth.Holder{cert.Holder})
	if away != nil {
		return away
	}
	if len(there) == 1 && access.Allow(there[0].Scopes, access.Admin) {
		return nil
	}
	return err
}

// certificatesPath is where programs have certificates made.
const certificatesPath = "/api/v1/certificates"

// freshTime is how long who came in by a code may make a certificate without showing one: long
// enough to make it, and over when somebody comes by the session later.
const freshTime = 15 * time.Minute

// fresh reports whether a session began by a code just now. One from the future began while
// the clock was wrong.
func fresh(s access.Session, now time.Time) bool {
	return (s.How == "claim" || s.How == "invitation") && now.Sub(s.Created).Abs() < freshTime
}

// certified is foreign for pages.
func (v *visit) certified() error {
	err := v.s.foreign(v.Request, v.caller)
	switch {
	case err == nil, v.URL.Path == "/logout": // going is open to everybody
		return nil
	case v.page.need == everybody:
		v.caller = auth.Caller{} // who may log in as somebody else
		return nil
	case !isDoor(v.URL.Path):
		return err
	}
	// Who came in by a password could have it from anybody. That somebody has a certificate
	// already says nothing: it may be lost.
	var sessions []access.Session
	if err := v.auth("GET", "/v1/me/sessions", nil, &sessions); err != nil {
		return err
	}
	for _, s := range sessions {
		if s.ID == v.caller.Session && fresh(s, v.s.o.clock()) {
			return nil
		}
	}
	return &auth.Refusal{Status: http.StatusForbidden, Why: "Who has no certificate makes one within 15 minutes of coming in by a code from the console, or by an invitation. Come in by a new one."}
}
