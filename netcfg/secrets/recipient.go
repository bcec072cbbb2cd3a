package secrets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// MaxRecipients is how many keys of the owner's the file may be encrypted to.
const MaxRecipients = 16

// maxKey bounds a recipient, in bytes: an RSA key of 8,192 bits has 1,400.
const maxKey = 4 << 10

// Errors that callers tell apart.
var (
	ErrBadRecipient = errors.New("nothing can be encrypted to that key")
	ErrNoRecipient  = errors.New("no recipient has that ID")
)

// Recipient is a public key of the owner's, who can read the file with its other half.
type Recipient struct {
	ID    string    `json:"id"`   // to speak of it: of the key's hash
	Key   string    `json:"key"`  // age1…, ssh-ed25519 … or ssh-rsa …, without a comment
	Name  string    `json:"name"` // whose it is
	Added time.Time `json:"added"`
	By    string    `json:"by,omitempty"`
}

// NewRecipient reads a public key as its owner has it: in one line, the comment of an
// SSH key included.
func NewRecipient(key, name string) (Recipient, error) {
	fields := strings.Fields(key)
	if len(fields) > 2 && strings.HasPrefix(fields[0], "ssh-") {
		fields = fields[:2]
	}
	r := Recipient{Key: strings.Join(fields, " "), Name: strings.TrimSpace(name)}
	r.ID = idOf(r.Key)
	_, err := r.parse()
	return r, err
}

func idOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

// parse checks a recipient and returns what age makes of its key.
func (r *Recipient) parse() (age.Recipient, error) {
	bad := func(c rune) bool { return !unicode.IsPrint(c) || c == utf8.RuneError }
	switch {
	case r.Name == "" || len(r.Name) > maxBy || strings.ContainsFunc(r.Name, bad):
		return nil, fmt.Errorf("%w: it needs the name of its owner, which can be printed and has at most %d bytes", ErrBadRecipient, maxBy)
	case len(r.Key) > maxKey:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrBadRecipient, maxKey)
	case strings.HasPrefix(r.Key, "AGE-SECRET-KEY-") || strings.Contains(r.Key, "PRIVATE KEY"):
		return nil, fmt.Errorf("%w: it is the private half, which nobody but you should have; age-keygen -y shows the public one", ErrBadRecipient)
	case strings.HasPrefix(r.Key, "age1pq1"):
		// age does not mix them with others, and the box's own key is such another.
		return nil, fmt.Errorf("%w: post-quantum keys are not supported yet; use one that begins with age1 only, or an SSH key", ErrBadRecipient)
	case strings.HasPrefix(r.Key, "age1"):
		k, err := age.ParseX25519Recipient(r.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: it is not whole: copy it again", ErrBadRecipient)
		}
		return k, nil
	case strings.HasPrefix(r.Key, "ssh-"):
		k, err := agessh.ParseRecipient(r.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: of SSH keys, ssh-ed25519 and ssh-rsa of at least 2,048 bits can be used", ErrBadRecipient)
		}
		return k, nil
	}
	return nil, fmt.Errorf("%w: give what age-keygen calls the public key (age1…), or a line of ~/.ssh/id_ed25519.pub", ErrBadRecipient)
}
