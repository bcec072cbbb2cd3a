package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bulkhead/services/file"
)

// File is the name of the file with the tokens, in the service's state directory.
const File = "tokens.json"

// damagedFile is where a file goes that cannot be read, for whoever wants to know.
const damagedFile = "tokens.damaged.json"

// maxFile bounds what is read of the file, in bytes: 64 tokens are less than 32 KiB.
const maxFile = 1 << 20

// usedEvery is how exactly the last use of a token is kept: flash wears out.
const usedEvery = time.Hour

// Errors that callers tell apart.
var (
	ErrUnknownToken = errors.New("the token is not known to this box: it was revoked, or belongs to another one")
	ErrExpiredToken = errors.New("the token has expired")
	ErrTooMany      = fmt.Errorf("there are %d tokens, and no room for another: revoke one", MaxTokens)
	ErrTaken        = errors.New("a token has that name already: choose another, or revoke that one first")
	ErrGrant        = errors.New("the token cannot be made")
)

// Store is the tokens on disk. Its methods may be called concurrently.
type Store struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	tokens []kept
	latest time.Time // ever seen, in the file or by the clock
}

// content is the file.
type content struct {
	Tokens []json.RawMessage `json:"tokens"`
}

// Open reads the tokens in the directory. Tokens that make no sense are left out, and
// a file that makes none is put aside, both with a word in the log: who has lost a
// token can claim the box anew at its console, and a box that does not start helps
// nobody.
func Open(dir string, log *slog.Logger, now func() time.Time) *Store {
	s := &Store{dir: dir, log: log, now: now}
	path := filepath.Join(dir, File)
	data, err := file.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	if err == nil {
		err = s.decode(data)
	}
	if err != nil {
		log.Error("the tokens are lost: claim the box at its console", "err", err)
		if err := os.Rename(path, filepath.Join(dir, damagedFile)); err != nil {
			log.Error("put the damaged file aside", "err", err)
		}
	}
	return s
}

// decode takes over the tokens of the file.
func (s *Store) decode(data []byte) error {
	var c content
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("%s: %w", File, err)
	}
	for i, raw := range c.Tokens {
		var t kept
		err := json.Unmarshal(raw, &t)
		if err == nil {
			err = t.check()
		}
		switch {
		case err != nil:
		case len(s.tokens) == MaxTokens:
			err = ErrTooMany
		case find(s.tokens, t.Hash) >= 0:
			err = errors.New("it is there twice")
		}
		if err != nil {
			s.log.Error("a token is lost", "file", File, "number", i+1, "err", err)
			continue
		}
		s.tokens = append(s.tokens, t)
		s.time(t.Created)
		s.time(t.Used)
	}
	return nil
}

// time returns t, or the latest time ever seen if that is later: a clock that begins
// in 1970 with every boot must not bring an expired token back to life.
func (s *Store) time(t time.Time) time.Time {
	if t.After(s.latest) {
		s.latest = t
	}
	return s.latest
}

// write makes the tokens durable.
func (s *Store) write(tokens []kept) error {
	data, err := json.MarshalIndent(struct {
		Tokens []kept `json:"tokens"`
	}{tokens}, "", "\t")
	if err != nil {
		return err
	}
	if err := file.Replace(filepath.Join(s.dir, File), append(data, '\n'), 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(s.dir)
}

// Claimed reports whether there is a token that may do everything: whether the box
// has an owner.
func (s *Store) Claimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.time(s.now())
	return slices.ContainsFunc(s.tokens, func(t kept) bool { return !t.expired(now) && slices.Contains(t.Scopes, Admin) })
}

// Add makes a token and returns it. Nobody will be told it again. It is on disk then.
func (s *Store) Add(name string, held []Scope, expires time.Time) (secret string, t Token, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(name, held, expires)
}

// Grant is Add on behalf of somebody who has a token. What is made holds nothing that by
// does not hold, neither in scope nor in time, and ends within [MaxLife]: a token that
// lies in some forgotten job must be worthless one day. The error wraps [ErrGrant],
// [ErrTaken] or [ErrTooMany] if that is what stands against it.
func (s *Store) Grant(by Token, in TokenRequest) (secret string, t Token, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.time(s.now())
	if err := by.mayGrant(in, now); err != nil {
		return "", Token{}, fmt.Errorf("%w: %w", ErrGrant, err)
	}
	// A change is its token's: two of one name could not be told apart.
	if slices.ContainsFunc(s.tokens, func(t kept) bool { return t.Name == in.Name && !t.expired(now) }) {
		return "", Token{}, fmt.Errorf("%w: %q", ErrTaken, in.Name)
	}
	return s.add(in.Name, in.Scopes, in.Expires.UTC())
}

// add is Add with the lock held.
func (s *Store) add(name string, held []Scope, expires time.Time) (secret string, t Token, err error) {
	now := s.time(s.now())
	secret = newSecret()
	hash, _ := hashOf(secret)
	k := kept{Token{ID: idOf(hash), Name: name, Scopes: slices.Clone(held), Created: now.UTC(), Expires: expires}, hash}
	if err := k.check(); err != nil {
		return "", Token{}, fmt.Errorf("the token: %w", err)
	}
	// Expired ones are of no use but to make room.
	list := slices.DeleteFunc(slices.Clone(s.tokens), func(t kept) bool { return len(s.tokens) >= MaxTokens && t.expired(now) })
	if len(list) >= MaxTokens {
		return "", Token{}, ErrTooMany
	}
	list = append(list, k)
	if err := s.write(list); err != nil {
		return "", Token{}, err
	}
	s.tokens = list
	return secret, k.Token, nil
}

// Check returns the token that secret is. The error is [ErrUnknownToken] or
// [ErrExpiredToken].
func (s *Store) Check(secret string) (Token, error) {
	hash, ok := hashOf(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := find(s.tokens, hash)
	if !ok || i < 0 {
		return Token{}, ErrUnknownToken
	}
	now := s.time(s.now())
	t := &s.tokens[i]
	if t.expired(now) {
		return Token{}, ErrExpiredToken
	}
	if now.Sub(t.Used) >= usedEvery {
		t.Used = now.UTC().Truncate(usedEvery)
		if err := s.write(s.tokens); err != nil {
			s.log.Warn("the last use of a token is not kept", "token", t.Name, "err", err)
		}
	}
	return t.Token, nil
}

// Find returns the token with an ID that is good now.
func (s *Store) Find(id string) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.time(s.now())
	for _, t := range s.tokens {
		if t.ID == id && !t.expired(now) {
			return t.Token, true
		}
	}
	return Token{}, false
}

// List returns the tokens in the order in which they were made.
func (s *Store) List() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Token, len(s.tokens))
	for i, t := range s.tokens {
		list[i] = t.Token
	}
	return list
}

// Revoke makes a token worthless, for good. The error is [ErrUnknownToken] if there
// is none with the ID.
func (s *Store) Revoke(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.tokens), func(t kept) bool { return t.ID == id })
	if len(list) == len(s.tokens) {
		return ErrUnknownToken
	}
	if err := s.write(list); err != nil {
		return err
	}
	s.tokens = list
	return nil
}

func (t *Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }
