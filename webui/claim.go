//go:build linux

package webui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"bulkhead/webui/access"
)

// takeClaim gives a token to who knows the code on the console.
func (s *server) takeClaim(w http.ResponseWriter, r *http.Request) {
	in, ok := read[access.ClaimRequest](w, r)
	if !ok {
		return
	}
	if err := access.CheckName(in.Name); err != nil {
		fail(w, http.StatusBadRequest, "the token: "+err.Error())
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
	if in.Key != "" {
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

// trust hands the first signing key to updated, which takes one that nobody signed
// only while it has none.
func (s *server) trust(ctx context.Context, in access.ClaimRequest) error {
	body, err := json.Marshal(struct {
		Key  string `json:"key"`
		Name string `json:"name"`
	}{in.Key, in.Name})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://updated/v1/keys", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(authorHeader, in.Name)
	client := http.Client{Transport: unixTransport(s.o.Updated)}
	resp, err := client.Do(req)
	if err != nil {
		return errors.New(noUpdated)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("updated answered with HTTP status %d", resp.StatusCode)
	}
	return errors.New(f.Error)
}
