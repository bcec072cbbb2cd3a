//go:build linux

// Package auth is the service that decides who may come in: it keeps the tokens, the
// users and their sessions, and the code on the console, and answers netcfgd, updated
// and webuid who somebody is and what they may.
//
// It reaches nothing and nobody reaches it but over its socket. webuid, which strangers
// talk to, holds none of it: a webuid that was taken over can use the sessions that pass
// through it, and can make none.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/services/auth/account"
	"bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	"bulkhead/services/metrics"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// server is the running service.
type server struct {
	log     *slog.Logger
	tokens  *access.Store
	users   *account.Store
	audit   *audit.Log
	claim   access.Claim
	invites invites
	count   counters
	now     func() time.Time
}

// Serve runs the service until ctx ends and returns ctx's error then.
func Serve(ctx context.Context, log *slog.Logger, d run.Dirs) error {
	state := d.StateDir(svcconf.Authd.Name)
	trail, err := audit.Open(state, log)
	if err != nil {
		return err
	}
	defer trail.Close()
	s := &server{
		log: log, audit: trail, now: time.Now,
		tokens: access.Open(state, log, time.Now),
		users:  account.Open(state, log, time.Now),
	}
	l, err := sock.Listen(filepath.Join(d.Run, api.SocketFile), svcconf.Webuid.ID, svcconf.Webuid.ID)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: s.handler(), ConnContext: sock.ConnContext,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	log.Info("started", "claimed", s.owned(), "users", len(s.users.Users()), "tokens", len(s.tokens.List()))
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return ctx.Err()
	})
	g.Go(func() error { return metrics.Serve(ctx, log, d.Run, svcconf.Authd.Name, s.metrics) })
	return g.Wait()
}

// owned reports whether somebody may do everything.
func (s *server) owned() bool { return s.tokens.Claimed() || s.users.Owned() }

// who returns who holds a secret. used says that a session is used by it.
func (s *server) who(secret string, used bool) (api.Caller, error) {
	if account.IsSession(secret) {
		look := s.users.Check
		if used {
			look = s.users.Use
		}
		session, user, err := look(secret)
		if err != nil {
			return api.Caller{}, refuse(http.StatusUnauthorized, err)
		}
		return api.Caller{Kind: api.BySession, Name: user.Name, ID: user.ID, Scopes: user.Role.Scopes(), Role: user.Role, Session: session.ID}, nil
	}
	t, err := s.tokens.Check(secret)
	if err != nil {
		return api.Caller{}, refuse(http.StatusUnauthorized, err)
	}
	return api.Caller{Kind: api.ByToken, Name: t.Name, ID: t.ID, Scopes: t.Scopes, Expires: t.Expires}, nil
}

var errNothing = errors.New("a token or a session is needed")

func (s *server) check(_ *request, in api.Check) (api.Caller, error) {
	if in.Secret == "" {
		return api.Caller{}, refuse(http.StatusUnauthorized, errNothing)
	}
	c, err := s.who(in.Secret, in.Use)
	if err == nil {
		err = allow(c, in.Need)
	}
	return c, err
}

// holders returns those of the holders that are still there.
func (s *server) holders(_ *request, in api.Holders) ([]api.Holding, error) {
	if len(in.Holders) > api.MaxHolders {
		return nil, refuse(http.StatusUnprocessableEntity, fmt.Errorf("more than %d holders", api.MaxHolders))
	}
	list := []api.Holding{}
	for _, h := range in.Holders {
		var scopes []access.Scope
		switch h.Kind {
		case api.BySession:
			if u, err := s.users.User(h.Name); err == nil && u.ID == h.ID {
				scopes = u.Role.Scopes()
			}
		case api.ByToken:
			if t, ok := s.tokens.Find(h.ID); ok && t.Name == h.Name {
				scopes = t.Scopes
			} else if slices.ContainsFunc(s.tokens.List(), func(t access.Token) bool { return t.ID == h.ID && t.Name == h.Name }) {
				scopes = []access.Scope{}
			}
		}
		if scopes != nil {
			list = append(list, api.Holding{Holder: h, Scopes: scopes})
		}
	}
	return list, nil
}
