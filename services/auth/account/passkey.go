package account

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"bulkhead/services/auth/access"
)

// relyingParty is the site as the library wants to see it.
func relyingParty(s access.Site) (*webauthn.WebAuthn, error) {
	return webauthn.New(&webauthn.Config{
		RPID: s.Host, RPDisplayName: s.Box, RPOrigins: []string{s.Origin},
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:      protocol.ResidentKeyRequirementRequired, // nobody types a name
			UserVerification: protocol.VerificationRequired,           // the second factor: a finger, a face, a PIN
		},
		AttestationPreference: protocol.PreferNoAttestation,
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyTime, TimeoutUVD: ceremonyTime},
			Registration: webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyTime, TimeoutUVD: ceremonyTime},
		},
	})
}

// Bounds on ceremonies that began and did not end.
const (
	ceremonyTime  = 5 * time.Minute
	maxCeremonies = 256 // the oldest makes room
)

// ceremonies are challenges that browsers were sent, by the challenge.
type ceremonies struct{ list []ceremony }

type ceremony struct {
	user  string // who registers; "" for a login
	began time.Time
	data  webauthn.SessionData
}

func (c *ceremonies) add(n ceremony) {
	c.list = slices.DeleteFunc(c.list, func(o ceremony) bool { return n.began.Sub(o.began) >= ceremonyTime })
	if len(c.list) >= maxCeremonies {
		c.list = c.list[1:]
	}
	c.list = append(c.list, n)
}

// take returns the ceremony of a challenge, which is good for one answer.
func (c *ceremonies) take(challenge, user string, now time.Time) (webauthn.SessionData, bool) {
	i := slices.IndexFunc(c.list, func(o ceremony) bool { return o.data.Challenge == challenge && o.user == user })
	if i < 0 {
		return webauthn.SessionData{}, false
	}
	found := c.list[i]
	c.list = slices.Delete(c.list, i, i+1)
	return found.data, now.Sub(found.began) < ceremonyTime
}

// keyID names a credential, whose own ID may be a kilobyte long.
func keyID(credential []byte) string {
	sum := sha256.Sum256(credential)
	return hex.EncodeToString(sum[:8])
}

// holder is a user as the library wants to see one.
type holder struct{ k *kept }

func (h holder) WebAuthnID() []byte          { return h.k.Handle }
func (h holder) WebAuthnName() string        { return h.k.Name }
func (h holder) WebAuthnDisplayName() string { return h.k.Name }
func (h holder) WebAuthnCredentials() []webauthn.Credential {
	var list []webauthn.Credential
	for _, p := range h.k.Passkeys {
		list = append(list, p.Credential)
	}
	return list
}

// BeginPasskey returns what the browser of a user is asked to make a passkey with.
func (s *Store) BeginPasskey(name string, site access.Site) (*protocol.CredentialCreation, error) {
	rp, err := relyingParty(site)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(name)
	switch {
	case k == nil:
		return nil, ErrUnknown
	case len(k.Passkeys) >= MaxPasskeys:
		return nil, fmt.Errorf("%w: there are %d passkeys: remove one first", ErrInvalid, MaxPasskeys)
	}
	var have []protocol.CredentialDescriptor
	for _, p := range k.Passkeys {
		have = append(have, p.Credential.Descriptor())
	}
	options, data, err := rp.BeginRegistration(holder{k}, webauthn.WithExclusions(have))
	if err != nil {
		return nil, err
	}
	s.ceremonies.add(ceremony{name, s.now(), *data})
	return options, nil
}

// AddPasskey keeps the passkey that a browser made. Label is what the user calls it. The
// error wraps [ErrUnknown], [ErrInvalid] or [ErrDenied] if that is what stands against it.
func (s *Store) AddPasskey(name, label string, site access.Site, answer []byte) error {
	rp, err := relyingParty(site)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return fmt.Errorf("%w: the browser's answer: %s", ErrInvalid, reason(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.find(name)
	if k == nil {
		return ErrUnknown
	}
	data, ok := s.ceremonies.take(parsed.Response.CollectedClientData.Challenge, name, s.now())
	if !ok {
		return fmt.Errorf("%w: it took too long: begin again", ErrInvalid)
	}
	credential, err := rp.CreateCredential(holder{k}, data, parsed)
	if err != nil {
		return fmt.Errorf("%w: the passkey: %s", ErrDenied, reason(err))
	}
	for i := range s.users {
		if slices.ContainsFunc(s.users[i].Passkeys, func(p keptKey) bool { return bytes.Equal(p.Credential.ID, credential.ID) }) {
			return fmt.Errorf("%w: the passkey is known already", ErrInvalid)
		}
	}
	// What the authenticator says of itself is not asked for, and not kept.
	credential.Attestation = webauthn.CredentialAttestation{}
	if label = printable(label); label == "" {
		label = "passkey"
	}
	return s.change(name, func(k *kept) error {
		if len(k.Passkeys) >= MaxPasskeys {
			return fmt.Errorf("%w: there are %d passkeys", ErrInvalid, MaxPasskeys)
		}
		k.Passkeys = append(k.Passkeys, keptKey{Name: label, Added: s.now().UTC().Truncate(time.Second), Credential: *credential})
		return nil
	})
}

// BeginLogin returns what a browser is asked to log in with: any passkey for the site.
func (s *Store) BeginLogin(site access.Site) (*protocol.CredentialAssertion, error) {
	rp, err := relyingParty(site)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	options, data, err := rp.BeginDiscoverableLogin()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ceremonies.add(ceremony{"", s.now(), *data})
	return options, nil
}

// FinishLogin begins a session of the user whose passkey answered. The error is as
// [Store.Login]'s, or wraps [ErrInvalid] for an answer that makes no sense.
func (s *Store) FinishLogin(site access.Site, answer []byte, from netip.Addr, agent string) (secret, name string, err error) {
	from = from.Unmap()
	rp, err := relyingParty(site)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := s.limit.wait("", from, s.now()); wait > 0 {
		return "", "", &WaitError{wait}
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		s.limit.wrong("", from, s.now())
		return "", "", fmt.Errorf("%w: the browser's answer: %s", ErrInvalid, reason(err))
	}
	data, ok := s.ceremonies.take(parsed.Response.CollectedClientData.Challenge, "", s.now())
	if !ok {
		s.limit.wrong("", from, s.now())
		return "", "", fmt.Errorf("%w: it took too long: begin again", ErrInvalid)
	}
	var found *kept
	credential, err := rp.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
		for i := range s.users {
			if bytes.Equal(s.users[i].Handle, handle) {
				found = &s.users[i]
				return holder{found}, nil
			}
		}
		return nil, errors.New("nobody has it")
	}, data, parsed)
	// A counter that runs backwards says that there are two of one key.
	if err == nil && credential.Authenticator.CloneWarning {
		s.log.Error("a passkey is refused: it seems to have been copied", "user", found.Name)
		err = errors.New("copied")
	}
	if err != nil {
		s.limit.wrong("", from, s.now())
		return "", "", ErrDenied
	}
	name = found.Name
	if err := s.keepCredential(name, credential); err != nil {
		return "", "", err
	}
	s.limit.right(name, from)
	s.seen(name, credential.ID)
	return s.begin(name, "passkey", from, agent), name, nil
}

// keepCredential keeps what changes of a passkey with each use, if anything does.
func (s *Store) keepCredential(name string, c *webauthn.Credential) error {
	k := s.find(name)
	i := slices.IndexFunc(k.Passkeys, func(p keptKey) bool { return bytes.Equal(p.Credential.ID, c.ID) })
	if i < 0 || k.Passkeys[i].Credential.Authenticator.SignCount == c.Authenticator.SignCount && k.Passkeys[i].Credential.Flags == c.Flags {
		return nil
	}
	return s.change(name, func(k *kept) error {
		k.Passkeys[i].Credential.Authenticator.SignCount = c.Authenticator.SignCount
		k.Passkeys[i].Credential.Flags = c.Flags
		return nil
	})
}

// reason says what the library has against an answer, without what was in it.
func reason(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Details
	}
	return err.Error()
}
