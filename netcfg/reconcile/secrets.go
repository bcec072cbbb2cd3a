//go:build linux

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/svcconf"
)

// revealer puts the values of secrets where what a service is told only names them. It
// comes last: what is compiled, planned, kept and shown has the names.
type revealer struct {
	store *secrets.Store
	errs  []error
}

// value looks a secret up, and notes why there is none.
func (v *revealer) value(name string) (secrets.Value, bool) {
	s, err := v.store.Value(name)
	if err != nil {
		v.errs = append(v.errs, unset(name, err))
	}
	return s, err == nil
}

// unset says what to do about a secret that cannot be had.
func unset(name string, err error) error {
	if errors.Is(err, secrets.ErrNotSet) {
		return fmt.Errorf("secret %q is not set: bulkhead secret set %s", name, name)
	}
	return fmt.Errorf("secret %q: %w", name, err)
}

// dns completes the resolvers. One that cannot be had is left out.
func (v *revealer) dns(d svcconf.DNS) svcconf.DNS {
	d.Resolvers = slices.Clone(d.Resolvers)
	known := d.Resolvers[:0]
	for _, r := range d.Resolvers {
		if r.Secret != "" {
			value, ok := v.value(r.Secret)
			if !ok {
				continue
			}
			full, err := conf.SecretResolver(value.Reveal())
			if err != nil {
				v.errs = append(v.errs, fmt.Errorf("secret %q: %w", r.Secret, err))
				continue
			}
			r.Addr, r.Name = full.Addr, full.Name
		}
		known = append(known, r)
	}
	d.Resolvers = known
	return d
}

// unusable reports the secrets that a configuration names and cannot have.
func (r *Reconciler) unusable(cfg *model.Config) diag.List {
	var list diag.List
	for _, u := range cfg.Secrets {
		v, err := r.o.Secrets.Value(u.Name)
		switch {
		case errors.Is(err, secrets.ErrNotSet):
			list.Add(u.Pos, u.Path, fmt.Sprintf("no secret %q is set on the box", u.Name), "set it first: bulkhead secret set "+u.Name)
			continue
		case err != nil:
			list.Add(u.Pos, u.Path, fmt.Sprintf("secret %q: %v", u.Name, err), "set it anew: bulkhead secret set "+u.Name)
			continue
		}
		if err := conf.CheckSecret(u.Kind, v.Reveal()); err != nil {
			list.Add(u.Pos, u.Path, fmt.Sprintf("the value of secret %q does not fit: %v", u.Name, err), "give it another one: bulkhead secret rotate "+u.Name)
		}
	}
	return list
}

// uses returns where secrets are named by what is in force, or may come back into it.
func (r *Reconciler) uses() []model.SecretUse {
	targets := []*target{&r.target, r.confirmed}
	if t := r.trial; t != nil {
		targets = append(targets, &t.target, t.confirmed)
	}
	var list []model.SecretUse
	for _, t := range targets {
		if t != nil {
			list = append(list, t.cfg.Secrets...)
		}
	}
	return list
}

// Secrets implements [api.Vault].
func (r *Reconciler) Secrets(ctx context.Context) (*api.Secrets, error) {
	s := &api.Secrets{Secrets: []api.Secret{}, Recipients: []api.Recipient{}}
	ask := r.do(ctx, func() {
		now := r.o.Wall()
		for _, v := range r.o.Secrets.List() {
			s.Secrets = append(s.Secrets, api.Secret{Name: v.Name, Set: v.Set, Rotated: v.Rotated, By: v.By, Old: v.Old(now), Uses: []string{}})
		}
		for _, u := range r.uses() {
			s.Secrets = noteUse(s.Secrets, u)
		}
		for _, k := range r.o.Secrets.Recipients() {
			s.Recipients = append(s.Recipients, recipientOf(k))
		}
		if err := r.o.Secrets.Lost(); err != nil {
			s.Lost = err.Error()
		}
	})
	return s, ask
}

// noteUse adds a use to the secret that it is of.
func noteUse(list []api.Secret, u model.SecretUse) []api.Secret {
	i := slices.IndexFunc(list, func(s api.Secret) bool { return s.Name == u.Name })
	if i < 0 {
		return append(list, api.Secret{Name: u.Name, Missing: true, Uses: []string{u.Path}})
	}
	if !slices.Contains(list[i].Uses, u.Path) {
		list[i].Uses = append(list[i].Uses, u.Path)
	}
	return list
}

func recipientOf(r secrets.Recipient) api.Recipient {
	return api.Recipient{ID: r.ID, Key: r.Key, Name: r.Name, Added: r.Added, By: r.By}
}

// overdue lists the secrets that are due for another value.
func (r *Reconciler) overdue() []string {
	var names []string
	for _, s := range r.o.Secrets.List() {
		if s.Old(r.o.Wall()) {
			names = append(names, s.Name)
		}
	}
	return names
}

// SetSecret implements [api.Vault].
func (r *Reconciler) SetSecret(ctx context.Context, name string, v api.NewSecret) (*api.Done, error) {
	return r.changeSecrets(ctx, "secret set", name, v.Author, func() error {
		if err := r.fits(name, string(v.Value)); err != nil {
			return err
		}
		return r.o.Secrets.Add(name, string(v.Value), v.Author)
	})
}

// RotateSecret implements [api.Vault].
func (r *Reconciler) RotateSecret(ctx context.Context, name string, v api.NewSecret) (*api.Done, error) {
	return r.changeSecrets(ctx, "secret rotated", name, v.Author, func() error {
		if err := r.fits(name, string(v.Value)); err != nil {
			return err
		}
		return r.o.Secrets.Rotate(name, string(v.Value), v.Author)
	})
}

// fits reports what keeps a value from being what the configuration uses it for.
func (r *Reconciler) fits(name, value string) error {
	for _, u := range r.uses() {
		if u.Name != name {
			continue
		}
		if err := conf.CheckSecret(u.Kind, value); err != nil {
			return api.BadSecret(fmt.Errorf("the value does not fit %s: %w", u.Path, err))
		}
	}
	return nil
}

// RemoveSecret implements [api.Vault].
func (r *Reconciler) RemoveSecret(ctx context.Context, name string) (*api.Done, error) {
	return r.changeSecrets(ctx, "secret removed", name, "", func() error {
		if r.target.closed != "" && !r.target.setup {
			// What will be in force once it can be loaded, nobody knows now.
			return api.BadSecret(fmt.Errorf("the box is closed, and cannot tell whether secret %q is needed", name))
		}
		var paths []string
		for _, u := range r.uses() {
			if u.Name == name {
				paths = append(paths, u.Path)
			}
		}
		if len(paths) > 0 {
			return api.BadSecret(fmt.Errorf("secret %q is in use: %s; take it out of the configuration first", name, strings.Join(paths, ", ")))
		}
		return r.o.Secrets.Remove(name)
	})
}

// AddRecipient implements [api.Vault].
func (r *Reconciler) AddRecipient(ctx context.Context, in api.NewRecipient) (*api.Recipient, error) {
	var out api.Recipient
	_, err := r.changeSecrets(ctx, "recipient of secrets added", in.Name, in.Author, func() error {
		k, err := r.o.Secrets.AddRecipient(in.Key, in.Name, in.Author)
		out = recipientOf(k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// RemoveRecipient implements [api.Vault].
func (r *Reconciler) RemoveRecipient(ctx context.Context, id string) (*api.Done, error) {
	return r.changeSecrets(ctx, "recipient of secrets removed", id, "", func() error { return r.o.Secrets.RemoveRecipient(id) })
}

// changeSecrets makes a change to the secrets, between rounds, and tells the services.
func (r *Reconciler) changeSecrets(ctx context.Context, what, name, author string, change func() error) (*api.Done, error) {
	var err error
	ask := r.do(ctx, func() {
		if r.noState != nil {
			err = fmt.Errorf("nothing can be kept, as it would not survive a reboot: %w", r.noState)
			return
		}
		if err = change(); err != nil {
			return
		}
		r.o.Log.Info(what, "name", name, "author", author)
		r.round()
	})
	if ask != nil {
		return nil, ask
	}
	if err != nil {
		return nil, secretError(name, err)
	}
	return &api.Done{}, nil
}

// secretError says what kind of error it is, and what to do.
func secretError(name string, err error) error {
	switch {
	case errors.Is(err, secrets.ErrNotSet):
		return api.Unknown(fmt.Errorf("no secret is called %q", name))
	case errors.Is(err, secrets.ErrNoRecipient):
		return api.Unknown(fmt.Errorf("no recipient has the ID %q", name))
	case errors.Is(err, secrets.ErrSet):
		return api.BadSecret(fmt.Errorf("secret %q is set already; to give it another value: bulkhead secret rotate %s", name, name))
	case errors.Is(err, secrets.ErrLost):
		return api.BadSecret(fmt.Errorf("%w; begin anew with: bulkhead secret set", err))
	case errors.Is(err, secrets.ErrBad), errors.Is(err, secrets.ErrBadRecipient):
		return api.BadSecret(err)
	}
	return err
}
