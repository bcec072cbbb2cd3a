package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/file"
	"bulkhead/webui/remote"
)

// site is a box that a change is tried on: this machine, or one that was claimed.
type site struct {
	local *api.Client
	all   remote.Profiles
	box   *remote.Profile // nil: this machine
}

// site returns the box that --box names, or this machine.
func (a *app) site(ctx context.Context) (*site, error) {
	if a.box == "" {
		return &site{local: api.NewClient(a.socket)}, nil
	}
	box, err := a.profile(ctx)
	if err != nil {
		return nil, err
	}
	return siteOf(box)
}

func siteOf(box *remote.Profile) (*site, error) {
	all, err := remote.Open()
	return &site{all: all, box: box}, err
}

// client returns a client of the box where it was last.
func (s *site) client() *api.Client {
	if s.box == nil {
		return s.local
	}
	return remote.New(s.box).Client
}

// flags are what has to be said of the box on a command line.
func (s *site) flags() string {
	if s.box == nil {
		return ""
	}
	return "--box " + s.box.Name + " "
}

// try makes a change that has the ID, after which the box is at next. It looks for a
// box that has moved for as long as patience.
func (s *site) try(ctx context.Context, id string, next []string, patience time.Duration, start start) (*remote.Tried, error) {
	if s.box == nil {
		t, err := start(ctx, s.local)
		if err != nil {
			return nil, err
		}
		return &remote.Tried{Pending: t.Pending, Plan: t.Plan, Found: true}, nil
	}
	before := s.box.URL
	t, err := s.box.Try(ctx, id, next, patience, func(ctx context.Context, c *remote.Client) (*api.Trial, error) { return start(ctx, c.Client) })
	if s.box.URL != before || len(s.box.Also) > 0 {
		err = errors.Join(err, s.all.Save(s.box))
	}
	return t, err
}

// confirm keeps the change, over a new connection.
func (s *site) confirm(ctx context.Context, id, token string, deadline time.Time) error {
	if s.box == nil {
		_, err := s.local.Confirm(ctx, api.Confirm{Token: token})
		if !errors.Is(err, api.ErrNothing) {
			return err
		}
		// Perhaps it was kept already: by "bulkhead confirm" in another window.
		if t, asked := s.local.Pending(ctx); asked == nil && t.Last != nil && t.Last.ID == id && t.Last.End == api.EndConfirmed {
			return nil
		}
		return err
	}
	return errors.Join(s.box.Confirm(ctx, id, token, deadline), s.all.Save(s.box))
}

// cancel undoes the change, if it is still pending, and no other.
func (s *site) cancel(ctx context.Context, k kept) error {
	_, err := s.client().Cancel(ctx, api.Cancel{ID: k.ID, Author: author()})
	return err
}

// start begins a change.
type start func(context.Context, *api.Client) (*api.Trial, error)

// kept is the change that waits for somebody at this machine, as it is remembered.
type kept struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

// newToken makes the token of a change. The box only echoes it: its answer may get lost.
func newToken() string { return rand.Text() + rand.Text() }

// path is where a pending change of the box is remembered.
func (s *site) path() (string, error) {
	name := "this-machine"
	if s.box != nil {
		name = "box-" + s.box.Name
	}
	dir, err := remote.Dir()
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		dir, err = filepath.Join(d, "bulkhead"), nil
	}
	return filepath.Join(dir, "pending", name+".json"), err
}

// remember keeps the token of a change, for its owner's eyes only.
func (s *site) remember(k kept) error {
	path, err := s.path()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return file.Replace(path, append(data, '\n'), 0o600, -1)
}

// remembered returns the change that was remembered last.
func (s *site) remembered() (k kept, err error) {
	path, err := s.path()
	if err != nil {
		return k, err
	}
	data, err := file.Read(path, 64<<10)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// forget forgets it: it is confirmed, or undone.
func (s *site) forget() {
	if path, err := s.path(); err == nil {
		_ = os.Remove(path) // what is left of it is worth nothing
	}
}
