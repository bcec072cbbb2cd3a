package account

import (
	"net/netip"

	"bulkhead/services/auth/password"
	"bulkhead/services/auth/totp"
)

// Login begins a session of who knows a user's password and the code of now, and returns
// its secret. What is wrong is not said: the error is [ErrDenied], or a [*WaitError]
// before anything was looked at.
func (s *Store) Login(name, pass, code string, from netip.Addr, agent string) (secret string, err error) {
	from = from.Unmap()
	hash, err := s.admit(name, from)
	if err != nil {
		return "", err
	}
	right := s.verify(hash, pass) // as slow for users that do not exist
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(name)
	// The code counts even beside a wrong password: whoever has stolen one must not be
	// told whether it was right.
	codeRight := false
	var period int64
	if k != nil && k.Password == hash && hash != "" {
		if shared, err := totp.Parse(k.TOTP); err == nil {
			period, codeRight = shared.Verify(s.now(), code, k.lastCode)
		}
	}
	if !right || !codeRight {
		return "", ErrDenied
	}
	k.lastCode = period
	s.limit.right(name, from)
	if password.Outdated(hash) {
		s.renew(name, password.Hash(pass))
	}
	s.seen(name, nil)
	return s.begin(name, "password", from, agent), nil
}

// admit returns the hash that a guess is held against, "" if there is none, unless it is
// too early for another guess. The guess is counted as wrong until it was right, so that
// many at once are no way around.
func (s *Store) admit(name string, from netip.Addr) (hash string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := s.limit.wait(name, from, s.now()); wait > 0 {
		return "", &WaitError{wait}
	}
	k := s.find(name)
	if k == nil {
		s.limit.wrong("", from, s.now())
		return "", nil
	}
	s.limit.wrong(name, from, s.now())
	return k.Password, nil
}

// renew keeps a hash that costs more to guess than the one that was made when the password
// was set.
func (s *Store) renew(name, hash string) {
	err := s.change(name, func(k *kept) error {
		k.Password = hash
		return nil
	})
	if err != nil {
		s.log.Warn("the password is not hashed anew", "user", name, "err", err)
	}
}
