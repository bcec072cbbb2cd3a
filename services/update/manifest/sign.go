package manifest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Each purpose has a first line of its own, so that a signature for one is none for
// another.
const (
	imageDomain = "bulkhead image v1\n"
	keysDomain  = "bulkhead keys v1\n"
)

// Why a signature does not count. The texts say what to do.
var (
	ErrUnsigned   = errors.New("the image is not signed: sign it first, with: bulkhead image sign FILE")
	ErrUnknownKey = errors.New("the image is signed by a key that this box does not know: add it with: bulkhead keys add")
	ErrSignature  = errors.New("the signature does not fit the image: it was changed after it was signed")
)

// maxSignatures bounds how many signatures an image may have.
const maxSignatures = 16

// A Signature is by one key.
type Signature struct {
	Key string `json:"key"` // id
	Sig []byte `json:"sig"`
}

// A PublicKey is a key that boxes are told to trust. In JSON it is its one word.
type PublicKey ed25519.PublicKey

const (
	publicPrefix  = "ed25519:"
	privatePrefix = "bulkhead-signing-key-ed25519:"
)

// ID returns the key's name among programs: 16 hexadecimal digits of its SHA-256.
func (k PublicKey) ID() string {
	sum := sha256.Sum256(k)
	return hex.EncodeToString(sum[:8])
}

// String returns the key in one word, for [ParsePublicKey].
func (k PublicKey) String() string { return publicPrefix + base64.StdEncoding.EncodeToString(k) }

// MarshalText implements [encoding.TextMarshaler].
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *PublicKey) UnmarshalText(text []byte) error {
	v, err := ParsePublicKey(string(text))
	if err == nil {
		*k = v
	}
	return err
}

// ParsePublicKey reads a public key in its one-word form.
func ParsePublicKey(text string) (PublicKey, error) {
	word, ok := strings.CutPrefix(text, publicPrefix)
	data, err := base64.StdEncoding.DecodeString(word)
	if !ok || err != nil || len(data) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.80q is no public key: want %s and 44 characters", text, publicPrefix)
	}
	return data, nil
}

// A PrivateKey signs.
type PrivateKey struct{ key ed25519.PrivateKey }

// NewPrivateKey makes a key out of 32 random bytes.
func NewPrivateKey(seed []byte) (PrivateKey, error) {
	if len(seed) != ed25519.SeedSize {
		return PrivateKey{}, fmt.Errorf("a key of %d bytes: want %d", len(seed), ed25519.SeedSize)
	}
	return PrivateKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// ParsePrivateKey reads what [PrivateKey.Secret] wrote.
func ParsePrivateKey(text string) (PrivateKey, error) {
	word, ok := strings.CutPrefix(strings.TrimSpace(text), privatePrefix)
	seed, err := base64.StdEncoding.DecodeString(word)
	if !ok || err != nil {
		return PrivateKey{}, errors.New("not a signing key of bulkhead's") // and no word of what it says
	}
	return NewPrivateKey(seed)
}

// Secret returns the key as it is kept in a file.
func (k PrivateKey) Secret() string {
	return privatePrefix + base64.StdEncoding.EncodeToString(k.key.Seed()) + "\n"
}

// Public returns the public half.
func (k PrivateKey) Public() PublicKey { return PublicKey(k.key.Public().(ed25519.PublicKey)) }

func (k PrivateKey) sign(domain string, message []byte) Signature {
	return Signature{k.Public().ID(), ed25519.Sign(k.key, append([]byte(domain), message...))}
}

// SignImage signs the bytes of a manifest.
func (k PrivateKey) SignImage(manifest []byte) Signature { return k.sign(imageDomain, manifest) }

// SignKeys signs a change to the keys that a box trusts.
func (k PrivateKey) SignKeys(c KeyChange) Signature { return k.sign(keysDomain, c.message()) }

// A KeyChange adds a key to those that a box trusts, or removes one.
type KeyChange struct {
	// Nonce is the box's, and another one after each change, so that a change cannot
	// be made again later, nor on another box.
	Nonce  string
	Remove bool
	Key    PublicKey
	Name   string // of the key, for people; "" to remove
}

func (c KeyChange) message() []byte {
	verb := "add"
	if c.Remove {
		verb = "remove"
	}
	// As JSON, in which a name cannot pass for another field.
	data, err := json.Marshal([]string{verb, c.Nonce, c.Key.String(), c.Name})
	if err != nil {
		panic("manifest: encode strings: " + err.Error())
	}
	return data
}

// VerifyImage returns the key of trusted that signed a manifest. The error is
// [ErrUnsigned], [ErrUnknownKey] or [ErrSignature].
func VerifyImage(manifest []byte, signatures []Signature, trusted []PublicKey) (PublicKey, error) {
	if len(signatures) == 0 {
		return nil, ErrUnsigned
	}
	return verify(imageDomain, manifest, signatures, trusted)
}

// VerifyKeys reports whether a change of keys is signed by one of trusted.
func VerifyKeys(c KeyChange, s Signature, trusted []PublicKey) error {
	_, err := verify(keysDomain, c.message(), []Signature{s}, trusted)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return errors.New("the change is signed by a key that this box does not know: sign with one that it lists")
	case err != nil:
		return errors.New("the signature does not fit the change: the keys may have changed meanwhile; try again")
	}
	return nil
}

func verify(domain string, message []byte, signatures []Signature, trusted []PublicKey) (PublicKey, error) {
	err := ErrUnknownKey
	message = append([]byte(domain), message...)
	for _, s := range signatures[:min(len(signatures), maxSignatures)] {
		for _, k := range trusted {
			if k.ID() != s.Key {
				continue
			}
			if len(k) == ed25519.PublicKeySize && ed25519.Verify(ed25519.PublicKey(k), message, s.Sig) {
				return k, nil
			}
			err = ErrSignature
		}
	}
	return nil, err
}

// ParseSignatures reads the signatures of an archive.
func ParseSignatures(data []byte) ([]Signature, error) {
	list, err := decode[[]Signature](data)
	if err == nil && len(list) > maxSignatures {
		err = fmt.Errorf("%d of them, more than %d", len(list), maxSignatures)
	}
	if err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	return list, nil
}
