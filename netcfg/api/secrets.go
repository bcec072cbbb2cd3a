package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"bulkhead/services/auth/access"
)

// ErrSecret says that a secret, who may read it, or a backup of them, cannot be what was
// asked for.
var ErrSecret = Tell(ErrInvalid, errors.New("that cannot be done with secrets"))

// BadSecret makes an error that is [ErrSecret] and says what err says.
func BadSecret(err error) error { return &told{err.Error(), ErrSecret} }

// Vault keeps what the configuration only names. Nothing that it answers holds a value.
// Its errors wrap [ErrUnknown] for a secret or a recipient that there is none of, and
// [ErrSecret] for what cannot be.
type Vault interface {
	Secrets(context.Context) (*Secrets, error)
	SetSecret(ctx context.Context, name string, v NewSecret) (*Done, error) // one that there is none of yet
	RotateSecret(ctx context.Context, name string, v NewSecret) (*Done, error)
	RemoveSecret(ctx context.Context, name string) (*Done, error)
	AddRecipient(context.Context, NewRecipient) (*Recipient, error)
	RemoveRecipient(ctx context.Context, id string) (*Done, error)
}

// Secrets is what may be told of the secrets, and who can read their file.
type Secrets struct {
	Secrets    []Secret    `json:"secrets"`
	Recipients []Recipient `json:"recipients"`
	Lost       string      `json:"lost,omitempty"` // why there are some that cannot be read
}

// Secret is a secret of which the box knows, without its value.
type Secret struct {
	Name    string    `json:"name"`
	Missing bool      `json:"missing,omitempty"` // the configuration names it, and it is not set
	Set     time.Time `json:"set,omitzero"`
	Rotated time.Time `json:"rotated,omitzero"` // when it was last given another value; zero: never
	By      string    `json:"by,omitempty"`     // who gave it the value that it has
	Old     bool      `json:"old,omitempty"`    // another value is due
	Uses    []string  `json:"uses"`             // where the configuration names it: resolvers[0].secret
}

// Since is when the secret got the value that it has.
func (s Secret) Since() time.Time {
	if s.Rotated.IsZero() {
		return s.Set
	}
	return s.Rotated
}

// Recipient is a public key of the owner's, who can read the file with its other half.
type Recipient struct {
	ID    string    `json:"id"`
	Key   string    `json:"key"`
	Name  string    `json:"name"`
	Added time.Time `json:"added"`
	By    string    `json:"by,omitempty"`
}

// NewSecret is a value for a secret.
type NewSecret struct {
	Value  Hidden `json:"value"`
	Author string `json:"author,omitempty"`
}

// NewRecipient is a public key to encrypt the secrets to: age1…, or that of an SSH key.
type NewRecipient struct {
	Key    string `json:"key"`
	Name   string `json:"name"` // whose it is
	Author string `json:"author,omitempty"`
}

// Done is the answer where there is nothing to say.
type Done struct{}

// Hidden is a text that is sent as it is, and neither printed nor logged.
type Hidden string

// Format implements [fmt.Formatter], for all verbs alike.
func (Hidden) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "(hidden)") }

// LogValue implements [slog.LogValuer].
func (Hidden) LogValue() slog.Value { return slog.StringValue("(hidden)") }

func handleVault(mux router, v Vault) {
	mux.handle("GET /v1/secrets", access.Admin, get(v.Secrets))
	mux.handle("PUT /v1/secrets/{name}", access.Admin, postTo("name", v.SetSecret))
	mux.handle("POST /v1/secrets/{name}/rotate", access.Admin, postTo("name", v.RotateSecret))
	mux.handle("DELETE /v1/secrets/{name}", access.Admin, remove("name", v.RemoveSecret))
	mux.handle("POST /v1/recipients", access.Admin, post(v.AddRecipient))
	mux.handle("DELETE /v1/recipients/{id}", access.Admin, remove("id", v.RemoveRecipient))
}

// postTo serves a request about what a part of the path names.
func postTo[In, Out any](part string, f func(context.Context, string, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		post(func(ctx context.Context, in In) (Out, error) { return f(ctx, r.PathValue(part), in) }).ServeHTTP(w, r)
	})
}

func remove[Out any](part string, f func(context.Context, string) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context(), r.PathValue(part))
		answer(w, v, err)
	})
}

// Secrets implements [Vault].
func (c *Client) Secrets(ctx context.Context) (*Secrets, error) {
	return call[*Secrets](ctx, c, "GET", "/v1/secrets", nil)
}

// SetSecret implements [Vault].
func (c *Client) SetSecret(ctx context.Context, name string, v NewSecret) (*Done, error) {
	return call[*Done](ctx, c, "PUT", "/v1/secrets/"+url.PathEscape(name), v)
}

// RotateSecret implements [Vault].
func (c *Client) RotateSecret(ctx context.Context, name string, v NewSecret) (*Done, error) {
	return call[*Done](ctx, c, "POST", "/v1/secrets/"+url.PathEscape(name)+"/rotate", v)
}

// RemoveSecret implements [Vault].
func (c *Client) RemoveSecret(ctx context.Context, name string) (*Done, error) {
	return call[*Done](ctx, c, "DELETE", "/v1/secrets/"+url.PathEscape(name), nil)
}

// AddRecipient implements [Vault].
func (c *Client) AddRecipient(ctx context.Context, r NewRecipient) (*Recipient, error) {
	return call[*Recipient](ctx, c, "POST", "/v1/recipients", r)
}

// RemoveRecipient implements [Vault].
func (c *Client) RemoveRecipient(ctx context.Context, id string) (*Done, error) {
	return call[*Done](ctx, c, "DELETE", "/v1/recipients/"+url.PathEscape(id), nil)
}
