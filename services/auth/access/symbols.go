package access

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// symbols are Crockford's base 32: no I, L, O and U, which people take for others.
// https://www.crockford.com/base32.html
const symbols = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	symbolBits = 5
	groupSize  = 4 // symbols between two dashes
)

// format writes bytes as groups of symbols with dashes between them. The last symbol
// is filled with zero bits.
func format(data []byte) string {
	var b strings.Builder
	var acc uint32
	bits, n := 0, 0
	put := func(v uint32) {
		if n > 0 && n%groupSize == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(symbols[v&31])
		n++
	}
	for _, c := range data {
		acc, bits = acc<<8|uint32(c), bits+8
		for ; bits >= symbolBits; bits -= symbolBits {
			put(acc >> (bits - symbolBits))
		}
	}
	if bits > 0 {
		put(acc << (symbolBits - bits))
	}
	return b.String()
}

// parse reads exactly size bytes of what format wrote, as people type it: in either
// case, with O for 0 and I or L for 1, with dashes and spaces wherever they like.
func parse(s string, size int) ([]byte, error) {
	want := (size*8 + symbolBits - 1) / symbolBits
	data := make([]byte, 0, size)
	var acc uint32
	bits, n := 0, 0
	for _, r := range s {
		if strings.ContainsRune("- \t\r\n", r) {
			continue
		}
		v, ok := value(r)
		if !ok {
			return nil, fmt.Errorf("%q is none of its characters", r)
		}
		if n++; n > want {
			return nil, fmt.Errorf("more than %d characters", want)
		}
		acc, bits = acc<<symbolBits|v, bits+symbolBits
		if bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	switch {
	case n < want:
		return nil, fmt.Errorf("%d characters instead of %d", n, want)
	case acc != 0:
		return nil, errors.New("its last character is impossible")
	}
	return data, nil
}

func value(r rune) (uint32, bool) {
	switch r {
	case 'o', 'O':
		return 0, true
	case 'i', 'I', 'l', 'L':
		return 1, true
	}
	if 'a' <= r && r <= 'z' {
		r += 'A' - 'a'
	}
	i := strings.IndexRune(symbols, r)
	return uint32(max(i, 0)), i >= 0
}

// Fingerprint is what people compare to know a box: the SHA-256 of its public key.
// It outlives certificates, which change with the names and addresses of the box.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate's key.
func FingerprintOf(c *x509.Certificate) Fingerprint {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// ParseFingerprint reads a fingerprint as people type it.
func ParseFingerprint(s string) (Fingerprint, error) {
	data, err := parse(s, sha256.Size)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("the fingerprint: %w", err)
	}
	return Fingerprint(data), nil
}

// String returns 13 groups of four symbols, which fit one line of a console.
func (f Fingerprint) String() string { return format(f[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Fingerprint) UnmarshalText(b []byte) error {
	v, err := ParseFingerprint(string(b))
	if err == nil {
		*f = v
	}
	return err
}
