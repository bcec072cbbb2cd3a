package account

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/services/auth/access"
)

// Bounds on sessions.
const (
	IdleTime    = 12 * time.Hour     // without use a session ends
	LifeTime    = 7 * 24 * time.Hour // and after that in any case
	maxSessions = 256
	perUser     = 16 // the longest idle makes room
	maxAgent    = 120
)

// ErrNoSession says that a session is over, or never was.
var ErrNoSession = errors.New("the session is over: log in again")

type session struct {
	access.Session
	user string
	hash [sha256.Size]byte
	// By a clock that nobody sets.
	born, last time.Time
}

// secretPrefix lets people and programs that look for lost secrets know one.
const secretPrefix = "bulkhead_session_"

// Begin makes a session of a user whom somebody let in by other means than the methods of
// this package, such as a claim code, and returns its secret.
func (s *Store) Begin(name, how string, from netip.Addr, agent string) (secret string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(name) == nil {
		return "", ErrUnknown
	}
	return s.begin(name, how, from, agent), nil
}

func (s *Store) begin(name, how string, from netip.Addr, agent string) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	secret := secretPrefix + hex.EncodeToString(b[:])
	now := s.now()
	s.expire(now)
	for _, limit := range []struct {
		max  int
		same func(*session) bool
	}{{perUser, func(x *session) bool { return x.user == name }}, {maxSessions, func(*session) bool { return true }}} {
		s.makeRoom(limit.max, limit.same)
	}
	x := &session{user: name, hash: sha256.Sum256([]byte(secret)), born: now, last: now}
	wall := now.UTC().Truncate(time.Second)
	x.Session = access.Session{ID: hex.EncodeToString(x.hash[:8]), User: name, How: how, From: from.Unmap(), Agent: printable(agent), Created: wall, Used: wall}
	s.sessions = append(s.sessions, x)
	return secret
}

// makeRoom ends the longest idle of the sessions until there is room for one more.
func (s *Store) makeRoom(limit int, same func(*session) bool) {
	for {
		n, oldest := 0, (*session)(nil)
		for _, x := range s.sessions {
			if same(x) {
				n++
				if oldest == nil || x.last.Before(oldest.last) {
					oldest = x
				}
			}
		}
		if n < limit {
			return
		}
		s.endSessions(func(x *session) bool { return x == oldest })
	}
}

// printable cuts what strangers say to what may stand in a list.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > maxAgent {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func (s *Store) expire(now time.Time) {
	s.endSessions(func(x *session) bool { return now.Sub(x.last) >= IdleTime || now.Sub(x.born) >= LifeTime })
}

func (s *Store) endSessions(over func(*session) bool) {
	s.sessions = slices.DeleteFunc(s.sessions, over)
}

// endOthers ends the user's sessions but the one with the secret keep.
func (s *Store) endOthers(name, keep string) {
	hash := sha256.Sum256([]byte(keep))
	s.endSessions(func(x *session) bool { return x.user == name && x.hash != hash })
}

// Use is [Store.Check] for what somebody asks who sits there: the session goes on.
func (s *Store) Use(secret string) (access.Session, access.User, error) { return s.check(secret, true) }

// Check returns the session and the user that a secret is for. The error is [ErrNoSession].
func (s *Store) Check(secret string) (access.Session, access.User, error) {
	return s.check(secret, false)
}

func (s *Store) check(secret string, used bool) (access.Session, access.User, error) {
	hash := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.expire(now)
	var found *session
	for _, x := range s.sessions {
		if subtle.ConstantTimeCompare(x.hash[:], hash[:]) == 1 {
			found = x
		}
	}
	if found == nil {
		return access.Session{}, access.User{}, ErrNoSession
	}
	k := s.find(found.user)
	if k == nil {
		return access.Session{}, access.User{}, ErrNoSession
	}
	if used {
		found.last, found.Used = now, now.UTC().Truncate(time.Second)
	}
	return found.Session, k.user(), nil
}

// IsSession reports whether a word can be the secret of a session.
func IsSession(secret string) bool { return strings.HasPrefix(secret, secretPrefix) }

// Sessions returns the sessions of a user, or of all for "", the last used first.
func (s *Store) Sessions(name string) []access.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(s.now())
	list := []access.Session{}
	for _, x := range s.sessions {
		if name == "" || x.user == name {
			list = append(list, x.Session)
		}
	}
	slices.SortStableFunc(list, func(a, b access.Session) int { return b.Used.Compare(a.Used) })
	return list
}

// End ends a session by its ID: one of the user's, or anybody's for "". The error is
// [ErrNoSession].
func (s *Store) End(name, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.sessions)
	s.endSessions(func(x *session) bool { return x.ID == id && (name == "" || x.user == name) })
	if len(s.sessions) == before {
		return ErrNoSession
	}
	return nil
}
