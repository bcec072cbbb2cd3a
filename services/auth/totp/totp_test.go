package totp_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"bulkhead/services/auth/totp"
)

// secret is that of the test vectors of RFC 6238, appendix B.
var secret = totp.Secret([]byte("12345678901234567890"))

func TestCodesAreThoseOfTheSpecification(t *testing.T) {
	for at, want := range map[int64]string{ // the last six of eight digits
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got := secret.Code(time.Unix(at, 0)); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestCodesAreThoseOfOathtool(t *testing.T) {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	out, err := exec.Command("oathtool", "--totp", "--base32", "--now", at.Format("2006-01-02 15:04:05 UTC"), secret.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s (Debian package oathtool: make deps-test)", err, out)
	}
	if got, want := secret.Code(at), strings.TrimSpace(string(out)); got != want {
		t.Errorf("got %s, oathtool says %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1111111109, 0)
	code := secret.Code(now)
	p, ok := secret.Verify(now, code, 0)
	if !ok {
		t.Fatal("the code of now is refused")
	}
	if _, ok := secret.Verify(now, code, p); ok {
		t.Error("a code is taken twice")
	}
	if _, ok := secret.Verify(now, code[:3]+" "+code[3:], 0); !ok {
		t.Error("a code with a space is refused")
	}
	for off, want := range map[time.Duration]bool{-61 * time.Second: false, -29 * time.Second: true, 29 * time.Second: true, 90 * time.Second: false} {
		if _, ok := secret.Verify(now, secret.Code(now.Add(off)), 0); ok != want {
			t.Errorf("a code of %v later: %v", off, ok)
		}
	}
	for _, bad := range []string{"", "0", code + "0", code[1:], "١٢٣٤٥٦"} {
		if _, ok := secret.Verify(now, bad, 0); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSecretIsReadBack(t *testing.T) {
	if got, err := totp.Parse(strings.ToLower(secret.String())); err != nil || got != secret {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "AAAA", secret.String() + "A", "1" + secret.String()[1:]} {
		if _, err := totp.Parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if got, want := secret.URI("gw", "alex smith"), "otpauth://totp/gw:alex%20smith?issuer=gw&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
