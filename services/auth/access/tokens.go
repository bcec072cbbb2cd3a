package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxTokens is how many tokens there may be.
const MaxTokens = 64

// MaxLife is how long a token may live that another one made: a leap year, so that a
// year always fits.
const MaxLife = 366 * 24 * time.Hour

// maxName bounds a token's name, in bytes. It is written into the history of changes.
const maxName = 64

// Token is what is kept of a token: not the token.
type Token struct {
	ID      string    `json:"id"`   // to speak of it; part of the hash
	Name    string    `json:"name"` // whose it is
	Scopes  []Scope   `json:"scopes"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"`    // last, to the hour
	Expires time.Time `json:"expires,omitzero"` // from then on it is worth nothing; zero: never
}

// kept is a token on disk.
type kept struct {
	Token
	Hash string `json:"hash"` // SHA-256, hexadecimal
}

// secretPrefix lets people and programs that look for lost secrets know one.
const secretPrefix = "bulkhead_"

const secretSize = 32 // 256 bits need no slow hash

// newSecret returns a random token.
func newSecret() string {
	var b [secretSize]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return secretPrefix + hex.EncodeToString(b[:])
}

// hashOf returns what is kept of a token, and false for what can be none.
func hashOf(secret string) (string, bool) {
	digits, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok || len(digits) != 2*secretSize {
		return "", false
	}
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:]), true
}

// IsToken reports whether a word can be a token.
func IsToken(secret string) bool {
	_, ok := hashOf(secret)
	return ok
}

// idOf names a token by its hash, of which it tells too little to be of use.
func idOf(hash string) string { return hash[:8] }

// check reports what is wrong with a token.
func (t *kept) check() error {
	if b, err := hex.DecodeString(t.Hash); err != nil || len(b) != sha256.Size || t.Hash != strings.ToLower(t.Hash) {
		return errors.New("its hash is none")
	}
	if t.ID != idOf(t.Hash) {
		return errors.New("its ID is not that of its hash")
	}
	if err := CheckName(t.Name); err != nil {
		return err
	}
	if len(t.Scopes) == 0 {
		return errors.New("it may do nothing")
	}
	for _, s := range t.Scopes {
		if !slices.Contains(scopes, s) {
			return fmt.Errorf("there is no scope %q", s)
		}
	}
	return nil
}

// mayGrant reports why the holder of t may not have the token made.
func (t *Token) mayGrant(in TokenRequest, now time.Time) error {
	if err := CheckName(in.Name); err != nil {
		return err
	}
	if len(in.Scopes) == 0 {
		return errors.New("it may do nothing: name its scopes")
	}
	for i, s := range in.Scopes {
		switch {
		case !slices.Contains(scopes, s):
			return fmt.Errorf("there is no scope %q: there are %s", s, ScopeNames())
		case slices.Contains(in.Scopes[:i], s):
			return fmt.Errorf("it has the scope %s twice", s)
		case !Allow(t.Scopes, s):
			return fmt.Errorf("it would have the scope %s, which the token %q does not have", s, t.Name)
		}
	}
	switch {
	case in.Expires.IsZero():
		return errors.New("it would never expire: say when it does")
	case !now.Before(in.Expires):
		return fmt.Errorf("it has expired: the box's clock says %s", now.UTC().Format(time.RFC3339))
	case in.Expires.After(now.Add(MaxLife)):
		return fmt.Errorf("it would live longer than a year: the box's clock says %s", now.UTC().Format(time.RFC3339))
	case !t.Expires.IsZero() && in.Expires.After(t.Expires):
		return fmt.Errorf("it would outlive the token %q, which expires %s", t.Name, t.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// CheckName reports what is wrong with the name of a token, which people will read in
// lists and logs.
func CheckName(name string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("it has no name")
	case len(name) > maxName || strings.ContainsFunc(name, bad):
		return fmt.Errorf("its name is longer than %d bytes or cannot be printed", maxName)
	}
	return nil
}

// find returns the index of the token with the hash, or -1. It looks at all of them
// whatever it finds.
func find(list []kept, hash string) int {
	found := -1
	for i := range list {
		if subtle.ConstantTimeCompare([]byte(list[i].Hash), []byte(hash)) == 1 {
			found = i
		}
	}
	return found
}
