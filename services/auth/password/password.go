// Package password keeps passwords as nobody can read them back: hashes by Argon2id,
// RFC 9106, in the form of the PHC string format.
//
// It never sees who a password belongs to, and never counts how often one was wrong.
package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Bounds on a password, in bytes. NIST SP 800-63B-4, section 3.1.1, asks for 15 where a
// password stands alone, and 8 beside a second factor, and for no rules on what is in it.
const (
	MinSize = 10
	MaxSize = 256
)

// cost is what one guess costs. A small box has half a gigabyte: it can do this for one
// password at a time, which callers see to.
type cost struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

var current = cost{memory: 32 << 10, passes: 3, lanes: 1}

// Bounds on what a stored hash may ask for: the file could be damaged.
const (
	maxMemory = 256 << 10
	maxPasses = 16
	maxLanes  = 8
	saltSize  = 16
	keySize   = 32
)

func (c cost) key(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.lanes, keySize)
}

// Check says what is wrong with a password that somebody chose. Words are those that it
// must not be made of, such as the user's name.
func Check(password string, words ...string) error {
	switch {
	case len(password) < MinSize:
		return fmt.Errorf("the password is shorter than %d characters: a few words are easy to remember", MinSize)
	case len(password) > MaxSize:
		return fmt.Errorf("the password is longer than %d bytes", MaxSize)
	case !utf8.ValidString(password):
		return errors.New("the password is no text")
	}
	rest := strings.ToLower(password)
	for _, w := range append(words, "password", "bulkhead", "1234567890", "0123456789", "qwertyuiop") {
		if w != "" {
			rest = strings.ReplaceAll(rest, strings.ToLower(w), "")
		}
	}
	distinct := map[rune]bool{}
	for _, r := range rest {
		distinct[r] = true
	}
	if len(rest) < 6 || len(distinct) < 4 {
		return errors.New("the password is too easy to guess: take a few words that have nothing to do with each other")
	}
	return nil
}

// Hash returns what is kept of a password.
func Hash(password string) string {
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails: crypto/rand
	return current.format(salt[:], current.key(password, salt[:]))
}

func (c cost) format(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// Verify reports whether hash is the password's. It takes as long for a hash that makes
// no sense as for a good one: Verify("", password) is for users that do not exist.
func Verify(hash, password string) bool {
	c, salt, key, err := parse(hash)
	if err != nil {
		c, salt, key = current, make([]byte, saltSize), make([]byte, keySize)
	}
	if len(password) > MaxSize {
		password = ""
		err = errors.New("too long")
	}
	same := subtle.ConstantTimeCompare(c.key(password, salt), key) == 1
	return same && err == nil
}

// Outdated reports whether a hash costs less to guess than one made now would.
func Outdated(hash string) bool {
	c, _, _, err := parse(hash)
	return err != nil || c != current
}

// Valid reports what is wrong with a hash.
func Valid(hash string) error {
	_, _, _, err := parse(hash)
	return err
}

var errHash = errors.New("no hash of a password")

func parse(hash string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return cost{}, nil, nil, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.lanes); err != nil || n != 3 {
		return cost{}, nil, nil, errHash
	}
	if c.memory < 8 || c.memory > maxMemory || c.passes < 1 || c.passes > maxPasses || c.lanes < 1 || c.lanes > maxLanes {
		return cost{}, nil, nil, errHash
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(parts[4])
	key, err2 := b64.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || len(salt) < saltSize || len(salt) > 64 || len(key) != keySize {
		return cost{}, nil, nil, errHash
	}
	if c.format(salt, key) != hash { // one way to write it
		return cost{}, nil, nil, errHash
	}
	return c, salt, key, nil
}
