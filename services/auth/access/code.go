package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// codeSize is 80 bits: four groups of four symbols, and too many to be guessed, be it
// at the box or from a proof that was overheard.
const codeSize = 10

// Code is the one-time code that the console shows.
type Code [codeSize]byte

// NewCode returns a random code.
func NewCode() Code {
	var c Code
	_, _ = rand.Read(c[:]) // never fails: crypto/rand
	return c
}

// ParseCode reads a code as people type it.
func ParseCode(s string) (Code, error) {
	data, err := parse(s, codeSize)
	if err != nil {
		return Code{}, fmt.Errorf("the claim code: %w", err)
	}
	return Code(data), nil
}

// String returns the code as the console shows it: 4X7M-09QT-ZK3A-B1CD.
func (c Code) String() string { return format(c[:]) }

// ExporterLabel and ExporterSize say which secret of a TLS session goes into a proof
// (RFC 8446 section 7.5). The two sessions that somebody in the middle holds have
// different ones, so a proof for one is worth nothing in the other.
const (
	ExporterLabel = "EXPORTER-bulkhead-claim"
	ExporterSize  = 32
)

// Side is an end of the connection: one cannot send the other's proof back to it.
type Side string

// The ends.
const (
	Client Side = "client"
	Server Side = "server"
)

// Proof shows that the side of the session with this exporter secret knows the code.
func (c Code) Proof(side Side, exporter []byte) []byte {
	m := hmac.New(sha256.New, c[:])
	m.Write([]byte("bulkhead claim " + side + "\n"))
	m.Write(exporter)
	return m.Sum(nil)
}

// Verify reports whether proof is that of the side in the session. It takes the same
// time whatever is wrong.
func (c Code) Verify(side Side, exporter, proof []byte) bool {
	return hmac.Equal(c.Proof(side, exporter), proof)
}
