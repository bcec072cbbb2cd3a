package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

// A workstation says that its certificate ends before it is locked out.
func TestEndOfACertificateIsSaidBefore(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		left time.Duration // 0: there is no certificate
		want string
	}{
		{0, ""},
		{31 * day, ""},
		{29 * day, "warning: the client certificate for gw ends on 2026-12-"},
		{time.Hour, "bulkhead --box gw certificate"},
		{-time.Hour, "is not shown"},
		{-300 * day, "set a new code at its console, and claim it again"},
	} {
		t.Setenv("XDG_CONFIG_HOME", t.TempDir())
		all, err := remote.Open()
		if err != nil {
			t.Fatal(err)
		}
		p := &remote.Profile{Name: "gw", URL: "https://192.168.10.1", Fingerprint: access.Fingerprint{1}, Token: "x"}
		if c.left != 0 {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: today.Add(c.left)}
			if p.Certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.Save(p); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		a := &app{box: "gw", out: &out, err: &errs, now: func() time.Time { return today }}
		if _, err := a.profile(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := errs.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) || out.Len() != 0 {
			t.Errorf("with %v left: got %q and %q", c.left, got, out.String())
		}
	}
}
