//go:build linux

package webui

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	update "bulkhead/services/update/api"
)

// takeClaim gives a token to who knows the code on the console.
func (s *server) takeClaim(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.ClaimRequest](w, r)
	if !ok {
		return
	}
	exporter, err := r.TLS.ExportKeyingMaterial(access.ExporterLabel, nil, access.ExporterSize)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	var claimed auth.Claimed
	ask := auth.Claim{Name: in.Name, Proof: in.Proof, Exporter: exporter}
	if err := s.access.Call(r.Context(), s.asker(r), "POST", "/v1/claim", ask, &claimed); err != nil {
		s.refuseClaim(w, r, err)
		return
	}
	out := access.ClaimAnswer{Box: s.conf.Load().Name, Token: claimed.Secret, Proof: claimed.Proof}
	if len(in.Key) > 0 {
		if err := s.trust(r.Context(), claimed.Secret, addrOf(r.RemoteAddr), in); err != nil {
			s.log.Warn("the signing key is not taken", "name", in.Name, "err", err)
			out.KeyError = err.Error()
		}
	}
	if in.Certificate != nil && s.conf.Load().ClientCertificates {
		if out.Certificate, err = s.firstCertificate(r, claimed.Secret, *in.Certificate); err != nil {
			s.log.Warn("no client certificate is made", "name", in.Name, "err", err)
			out.CertificateError = err.Error()
		}
	}
	answer(w, out)
}

// firstCertificate makes one for the token that a code has brought.
func (s *server) firstCertificate(r *http.Request, secret string, in access.CertificateRequest) ([]byte, error) {
	caller, err := s.access.Check(r.Context(), secret, "")
	if err != nil {
		return nil, err
	}
	by := s.asker(r)
	by.Secret = secret
	return s.certificateFor(r.Context(), by, caller.Holder(), in)
}

// asker is on whose behalf authd is asked.
func (s *server) asker(r *http.Request) auth.Asker {
	return auth.Asker{Secret: auth.Bearer(r), From: addrOf(r.RemoteAddr), Agent: r.UserAgent()}
}

func (s *server) refuseClaim(w http.ResponseWriter, r *http.Request, err error) {
	s.refused.warn("claim refused", "from", r.RemoteAddr, "err", err)
	no, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		fail(w, http.StatusServiceUnavailable, noAuthd)
		return
	}
	if no.Wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(no.Wait.Seconds())))
	}
	fail(w, no.Status, no.Why)
}

// trust has updated trust the key that came with a claim. updated takes one that nobody
// signed only while it trusts none.
func (s *server) trust(ctx context.Context, secret string, from netip.Addr, in access.ClaimRequest) error {
	keys := update.NewClientAs(s.o.Updated, secret, from)
	known, err := keys.Keys(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known.Keys, func(k update.Key) bool { return bytes.Equal(k.Key, in.Key) }) {
		return nil
	}
	return keys.AddKey(ctx, update.AddKey{Key: in.Key, Name: in.Name})
}
