// Package secrets keeps what the configuration only names: passwords, keys and
// tokens. They are in one file, encrypted with age (https://age-encryption.org/v1) to
// the box's own key and to those of its owner, who can so read it elsewhere, too.
//
// It never logs a secret, and hands out none that prints itself: see [Value]. It does
// not know what secrets are for.
package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on what is kept. All of it fits into memory many times over.
const (
	MaxSecrets = 256
	MaxValue   = 16 << 10 // bytes: an RSA key of 8,192 bits has 7
	maxName    = 32
	maxBy      = 64
)

// RemindAfter is the age from which on somebody should think of a new value.
const RemindAfter = 365 * 24 * time.Hour

// Errors that callers tell apart.
var (
	ErrNotSet = errors.New("the secret is not set")
	ErrSet    = errors.New("the secret is set already")
	ErrBad    = errors.New("that cannot be kept as a secret")
	// ErrLost says that the file with the secrets is there and cannot be read.
	ErrLost = errors.New("the secrets cannot be read")
)

// Value is a secret. However it is printed, logged or encoded, it shows its name and
// not itself; only [Value.Reveal] gives it away.
type Value struct{ name, text string }

// Reveal returns the secret itself. Whoever calls it answers for where it goes.
func (v Value) Reveal() string { return v.text }

func (v Value) String() string { return "secret " + v.name }

// Format implements [fmt.Formatter], for all verbs alike.
func (v Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, v.String()) }

// MarshalText implements [encoding.TextMarshaler], and so JSON as well.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// LogValue implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

var (
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)

// Secret is what may be told of a secret.
type Secret struct {
	Name    string    `json:"name"`
	Set     time.Time `json:"set"`              // when it was first set
	Rotated time.Time `json:"rotated,omitzero"` // when it was last given another value; zero: never
	By      string    `json:"by,omitempty"`     // who gave it the value that it has
}

// Since is when the secret got the value that it has.
func (s Secret) Since() time.Time {
	if s.Rotated.IsZero() {
		return s.Set
	}
	return s.Rotated
}

// Old reports whether the value has been in use for so long that another is due.
func (s Secret) Old(now time.Time) bool { return now.Sub(s.Since()) >= RemindAfter }

// kept is a secret in the file.
type kept struct {
	Secret
	Value string `json:"value"`
}

// check reports what is wrong with a secret, without quoting it.
func (k *kept) check() error {
	if !validName(k.Name) {
		return fmt.Errorf("%w: names are lower-case letters, digits and inner hyphens, begin with a letter and have at most %d characters", ErrBad, maxName)
	}
	switch {
	case strings.TrimSpace(k.Value) == "":
		return fmt.Errorf("%w: it is empty", ErrBad)
	case len(k.Value) > MaxValue:
		return fmt.Errorf("%w: it has %d bytes; the limit is %d", ErrBad, len(k.Value), MaxValue)
	case !utf8.ValidString(k.Value) || strings.ContainsRune(k.Value, 0):
		return fmt.Errorf("%w: it is not text", ErrBad)
	case len(k.By) > maxBy:
		return fmt.Errorf("%w: its author's name has more than %d bytes", ErrBad, maxBy)
	}
	return nil
}

// validName reports whether the configuration can name a secret so.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'a' || s[0] > 'z' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// content is what the file holds, once decrypted. Keys that are not known are passed
// over: after an update that failed, an older program reads what a newer one wrote.
type content struct {
	Secrets    []kept      `json:"secrets"`
	Recipients []Recipient `json:"recipients"`
}

// decode reads a content, and takes nothing that could not have been written.
func decode(data []byte) (*content, error) {
	c := new(content)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, errors.New("its content makes no sense") // err may quote it
	}
	if len(c.Secrets) > MaxSecrets || len(c.Recipients) > MaxRecipients {
		return nil, errors.New("it holds more than it may")
	}
	names, ids := map[string]bool{}, map[string]bool{}
	for i := range c.Secrets {
		k := &c.Secrets[i]
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		if names[k.Name] {
			return nil, fmt.Errorf("secret %q is there twice", k.Name)
		}
		names[k.Name] = true
	}
	for i := range c.Recipients {
		r := &c.Recipients[i]
		if _, err := r.parse(); err != nil {
			return nil, fmt.Errorf("recipient %d: %w", i+1, err)
		}
		if r.ID != idOf(r.Key) || ids[r.ID] {
			return nil, fmt.Errorf("recipient %d: its ID is not its own", i+1)
		}
		ids[r.ID] = true
	}
	return c, nil
}
