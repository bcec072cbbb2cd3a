//go:build linux

package update

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"bulkhead/services/update/api"
)

// How passwords are kept: OWASP's figure for PBKDF2 with SHA-256, of 2023.
const (
	passwordScheme = "pbkdf2-sha256"
	passwordRounds = 600_000
	shortest       = 12 // characters
	longest        = 200
)

// How long the next try takes after a wrong password: it doubles with each.
const (
	firstWait = 5 * time.Second
	lastWait  = 5 * time.Minute
)

func (u *updater) setPassword(in api.Password) error {
	if n := len(in.Password); n < shortest || n > longest {
		return refuse(http.StatusBadRequest, "the password has %d characters: want %d to %d", n, shortest, longest)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	sum, err := hashPassword(in.Password, salt, passwordRounds)
	if err != nil {
		return err
	}
	enc := base64.RawStdEncoding.EncodeToString
	text := fmt.Sprintf("%s:%d:%s:%s", passwordScheme, passwordRounds, enc(salt), enc(sum))
	return u.store.update(func(s *state) error { s.Password = text; return nil })
}

func hashPassword(password string, salt []byte, rounds int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, salt, rounds, 32)
}

// passwordGate checks passwords, one at a time and not too often. The zero value is
// ready.
type passwordGate struct {
	mu    sync.Mutex
	known string   // the hash that was last checked with success, and
	sum   [32]byte // a fast hash of its password, since an upload asks several times
	wrong int      // tries in a row
	until time.Time
}

var errPassword = &refusal{http.StatusUnauthorized, "wrong user or password; the password is set with: bulkhead keys gokrazy-password"}

// check compares a user and password with a hash that setPassword made.
func (g *passwordGate) check(stored, user, password string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := sha256.Sum256([]byte(password))
	if stored == "" || user != gokrazyUser {
		return errPassword
	}
	if g.known == stored && subtle.ConstantTimeCompare(sum[:], g.sum[:]) == 1 {
		return nil
	}
	if wait := time.Until(g.until); wait > 0 {
		return refuse(http.StatusTooManyRequests, "too many wrong passwords: wait %s", wait.Round(time.Second)+time.Second)
	}
	if !verifyPassword(stored, password) {
		g.until = time.Now().Add(min(firstWait<<min(g.wrong, 10), lastWait))
		g.wrong++
		return errPassword
	}
	g.known, g.sum, g.wrong = stored, sum, 0
	return nil
}

func verifyPassword(stored, password string) bool {
	f := strings.Split(stored, ":")
	if len(f) != 4 || f[0] != passwordScheme || len(password) > longest {
		return false
	}
	rounds, err1 := strconv.Atoi(f[1])
	salt, err2 := base64.RawStdEncoding.DecodeString(f[2])
	want, err3 := base64.RawStdEncoding.DecodeString(f[3])
	if err1 != nil || err2 != nil || err3 != nil || rounds < 1 {
		return false
	}
	got, err := hashPassword(password, salt, rounds)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}
