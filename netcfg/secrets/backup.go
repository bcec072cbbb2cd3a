package secrets

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// ErrConflict says that a secret is set already and has another value.
var ErrConflict = errors.New("there are secrets with other values already")

// Export returns everything that is kept, in the clear. Whoever calls it answers for
// where it goes. The error is [ErrLost] if there is more than can be read.
func (s *Store) Export() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil {
		return nil, s.lost
	}
	return json.Marshal(s.content)
}

// Exported is what may be told of what [Store.Export] returned.
type Exported struct {
	Secrets    []Secret
	Recipients []Recipient
}

// Inspect reads what [Store.Export] returned. Its errors quote no secret.
func Inspect(data []byte) (*Exported, error) {
	c, err := decode(data)
	if err != nil {
		return nil, err
	}
	e := &Exported{Recipients: c.Recipients}
	for _, k := range c.Secrets {
		e.Secrets = append(e.Secrets, k.Secret)
	}
	return e, nil
}

// Import takes over what [Store.Export] returned on another box, as it was there: what
// is kept here already stays, and is no conflict if it is the same. It returns the names
// of the secrets that have another value now, or are new.
//
// The error is [ErrConflict] if secrets have other values here, unless replace says that
// those are to go. It is [ErrBad] if it makes no sense, or there is no room. With an
// error nothing is changed.
func (s *Store) Import(data []byte, replace bool) (taken []string, err error) {
	in, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	err = s.change(func(c *content) error {
		var other []string
		for _, k := range in.Secrets {
			switch i := c.find(k.Name); {
			case i < 0:
				c.Secrets = append(c.Secrets, k)
			case c.Secrets[i].Value == k.Value:
				continue
			default:
				c.Secrets[i], other = k, append(other, k.Name)
			}
			taken = append(taken, k.Name)
		}
		for _, r := range in.Recipients {
			if !slices.ContainsFunc(c.Recipients, func(o Recipient) bool { return o.ID == r.ID }) {
				c.Recipients = append(c.Recipients, r)
			}
		}
		switch {
		case len(other) > 0 && !replace:
			return fmt.Errorf("%w: %s", ErrConflict, strings.Join(other, ", "))
		case len(c.Secrets) > MaxSecrets || len(c.Recipients) > MaxRecipients:
			return fmt.Errorf("%w: with them, there are more than %d secrets or %d recipients", ErrBad, MaxSecrets, MaxRecipients)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(taken)
	return taken, nil
}

// Encrypt encrypts data to recipients, and to nobody else: not to the box either. The
// error is [ErrNoRecipient] without any.
func Encrypt(data []byte, to []Recipient) ([]byte, error) {
	var keys []age.Recipient
	for i := range to {
		k, err := to[i].parse()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if keys == nil {
		return nil, fmt.Errorf("%w: there is none at all", ErrNoRecipient)
	}
	return seal(data, keys)
}

// Errors of [Decrypt] and [ReadIdentities].
var (
	// ErrNoKey says that the private keys are not of those that data is encrypted to.
	ErrNoKey      = errors.New("it is not encrypted to that key")
	ErrNotAge     = errors.New("it is not encrypted with age, or its beginning is damaged")
	ErrDamaged    = errors.New("it is damaged, or cut off")
	ErrTooLarge   = errors.New("it holds more than it may")
	ErrNoIdentity = errors.New("there is no private key of age's or SSH's in it")
	ErrPassphrase = errors.New("that is not the passphrase of the SSH key")
)

// Decrypt is the inverse of [Encrypt], for the owner of one of its keys. It returns at
// most limit bytes, and nothing of what is damaged further on.
func Decrypt(data []byte, keys []age.Identity, limit int64) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		return nil, ErrNotAge
	}
	r, err := age.Decrypt(bytes.NewReader(data), keys...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case int64(len(plain)) > limit:
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, limit)
	}
	return plain, nil
}

// ReadIdentities reads the private half of a [Recipient] as its owner has it: a file of
// age-keygen's, or an SSH key. For an SSH key that has a passphrase, passphrase is asked.
// Errors quote nothing of it.
func ReadIdentities(data []byte, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		keys, err := age.ParseIdentities(bytes.NewReader(data))
		if err != nil {
			return nil, ErrNoIdentity // err may quote it
		}
		return keys, nil
	}
	key, err := agessh.ParseIdentity(data)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		key, err = unlock(data, passphrase)
		if err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, ErrNoIdentity
	}
	return []age.Identity{key}, nil
}

// unlock reads an SSH key that has a passphrase.
func unlock(data []byte, passphrase func() ([]byte, error)) (age.Identity, error) {
	word, err := passphrase()
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(data, word)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	switch k := raw.(type) {
	case *ed25519.PrivateKey:
		return agessh.NewEd25519Identity(*k)
	case *rsa.PrivateKey:
		return agessh.NewRSAIdentity(k)
	}
	return nil, ErrNoIdentity
}
