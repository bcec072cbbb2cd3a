//go:build linux

package webui

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"bulkhead/services/auth/access"
	update "bulkhead/services/update/api"
)

// takeClaim gives a token to who knows the code on the console.
func (s *server) takeClaim(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.ClaimRequest](w, r)
	if !ok {
		return
	}
	if err := access.CheckName(in.Name); err != nil {
		fail(w, http.StatusUnprocessableEntity, "the token: "+err.Error())
		return
	}
	exporter, err := r.TLS.ExportKeyingMaterial(access.ExporterLabel, nil, access.ExporterSize)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	out := access.ClaimAnswer{Box: s.conf.Load().Name}
	out.Proof, err = s.claim.Redeem(addrOf(r.RemoteAddr), time.Now(), exporter, in.Proof, func() (err error) {
		out.Token, _, err = s.tokens.Add(in.Name, []access.Scope{access.Admin}, time.Time{})
		return err
	})
	if err != nil {
		s.refuseClaim(w, r, err)
		return
	}
	s.log.Info("claimed", "name", in.Name, "from", r.RemoteAddr)
	if len(in.Key) > 0 {
		if err := s.trust(r.Context(), in); err != nil {
			s.log.Warn("the signing key is not taken", "name", in.Name, "err", err)
			out.KeyError = err.Error()
		}
	}
	answer(w, out)
}

func (s *server) refuseClaim(w http.ResponseWriter, r *http.Request, err error) {
	s.refused.warn("claim refused", "from", r.RemoteAddr, "err", err)
	status := http.StatusInternalServerError
	if wait, ok := errors.AsType[*access.WaitError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.For.Seconds()))))
		status = http.StatusTooManyRequests
	} else if errors.Is(err, access.ErrNoCode) || errors.Is(err, access.ErrWrongProof) {
		status = http.StatusForbidden
	}
	fail(w, status, err.Error())
}

// trust has updated trust the key that came with a claim. updated takes one that nobody
// signed only while it trusts none.
func (s *server) trust(ctx context.Context, in access.ClaimRequest) error {
	known, err := s.keys.Keys(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known.Keys, func(k update.Key) bool { return bytes.Equal(k.Key, in.Key) }) {
		return nil
	}
	return s.keys.AddKey(ctx, update.AddKey{Key: in.Key, Name: in.Name})
}
