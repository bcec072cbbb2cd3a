// Package totp is the second factor that changes every half minute: time-based one-time
// passwords, RFC 6238, as authenticator apps show them.
//
// The package is pure: it is told the time, and remembers nothing.
package totp

import (
	"crypto/hmac"
	"crypto/sha1" // what RFC 6238 has, and all apps know: HMAC does not need more of it
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// What apps take for granted.
const (
	Size   = 20 // bytes of a secret, RFC 4226 section 4, R6
	digits = 6
	period = 30 * time.Second
)

// window is how many periods the clocks of box and telephone may be apart, either way.
const window = 1

// Secret is what the box and the app share.
type Secret [Size]byte

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the secret as people type it into an app.
func (s Secret) String() string { return encoding.EncodeToString(s[:]) }

// Parse reads a secret.
func Parse(text string) (Secret, error) {
	text = strings.ToUpper(strings.ReplaceAll(text, " ", ""))
	b, err := encoding.DecodeString(text)
	if err != nil || len(b) != Size || encoding.EncodeToString(b) != text {
		return Secret{}, errors.New("no secret of a one-time password")
	}
	return Secret(b), nil
}

// URI returns what goes into the QR code for an app: who the code is for, and where.
func (s Secret) URI(issuer, account string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + account}
	u.RawQuery = url.Values{"secret": {s.String()}, "issuer": {issuer}}.Encode()
	return u.String()
}

// Code returns the code of the period that now is in.
func (s Secret) Code(now time.Time) string { return s.at(step(now)) }

func step(t time.Time) int64 { return t.Unix() / int64(period/time.Second) }

func (s Secret) at(step int64) string {
	m := hmac.New(sha1.New, s[:])
	_ = binary.Write(m, binary.BigEndian, step)
	sum := m.Sum(nil)
	i := sum[len(sum)-1] & 0xf // RFC 4226 section 5.3
	return fmt.Sprintf("%0*d", digits, binary.BigEndian.Uint32(sum[i:])&0x7fffffff%1_000_000)
}

// Verify reports whether code is one of now, and in which period. A code must be used
// once only (RFC 6238 section 5.2): last is the period of the one that was used before,
// 0 if there was none.
func (s Secret) Verify(now time.Time, code string, last int64) (period int64, ok bool) {
	code = strings.ReplaceAll(code, " ", "") // apps show them in two groups
	for p := step(now) - window; p <= step(now)+window; p++ {
		if p > last && subtle.ConstantTimeCompare([]byte(s.at(p)), []byte(code)) == 1 {
			period, ok = p, true
		}
	}
	return period, ok
}
