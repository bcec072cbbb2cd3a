package access_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/auth/access"
)

// clock is a clock that the test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

var today = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, c *clock) (*access.Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return access.Open(dir, slog.New(slog.NewTextHandler(&log, nil)), c.now), &log
}

func add(t *testing.T, s *access.Store, name string, expires time.Time, held ...access.Scope) (string, access.Token) {
	t.Helper()
	secret, token, err := s.Add(name, held, expires)
	if err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func TestTokensSurviveARestartAndAreNotOnDisk(t *testing.T) {
	dir, c := t.TempDir(), &clock{today}
	s, _ := open(t, dir, c)
	if s.Claimed() {
		t.Error("a box without tokens has an owner")
	}
	secret, token := add(t, s, "alex", time.Time{}, access.Admin)
	if _, err := s.Check(secret); err != nil {
		t.Fatal(err)
	}

	s, log := open(t, dir, c)
	got, err := s.Check(secret)
	if err != nil {
		t.Fatal(err)
	}
	want := access.Token{ID: token.ID, Name: "alex", Scopes: []access.Scope{access.Admin}, Created: today, Used: today}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("token differs (-want +got):\n%s", diff)
	}
	if !s.Claimed() || log.Len() > 0 {
		t.Errorf("claimed %v, log %q", s.Claimed(), log)
	}
	path := filepath.Join(dir, access.File)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, digits, _ := strings.Cut(secret, "_")
	if bytes.Contains(data, []byte(digits)) {
		t.Error("the token itself is on disk")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestRevokedTokenIsWorthNothing(t *testing.T) {
	dir, c := t.TempDir(), &clock{today}
	s, _ := open(t, dir, c)
	alex, token := add(t, s, "alex", time.Time{}, access.Admin)
	kim, _ := add(t, s, "kim", time.Time{}, access.Read)
	if err := s.Revoke(token.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(token.ID); !errors.Is(err, access.ErrUnknownToken) {
		t.Errorf("again: got %v", err)
	}
	for range 2 {
		if _, err := s.Check(alex); !errors.Is(err, access.ErrUnknownToken) {
			t.Errorf("revoked: got %v", err)
		}
		if _, err := s.Check(kim); err != nil {
			t.Errorf("the other: %v", err)
		}
		if s.Claimed() {
			t.Error("who may only read owns the box")
		}
		s, _ = open(t, dir, c)
	}
}

func TestNoClockBringsAnExpiredTokenBack(t *testing.T) {
	dir, c := t.TempDir(), &clock{today}
	s, _ := open(t, dir, c)
	secret, _ := add(t, s, "visitor", today.Add(time.Hour), access.Read)
	forever, _ := add(t, s, "alex", time.Time{}, access.Admin)
	c.t = today.Add(time.Hour)
	if _, err := s.Check(secret); !errors.Is(err, access.ErrExpiredToken) {
		t.Errorf("at its end: got %v", err)
	}
	if _, err := s.Check(forever); err != nil { // notes when it was
		t.Fatal(err)
	}
	c.t = time.Unix(0, 0) // no battery
	s, _ = open(t, dir, c)
	if _, err := s.Check(secret); !errors.Is(err, access.ErrExpiredToken) {
		t.Errorf("in 1970: got %v", err)
	}
}

func TestNonsenseIsNoToken(t *testing.T) {
	s, _ := open(t, t.TempDir(), &clock{today})
	secret, _ := add(t, s, "alex", time.Time{}, access.Admin)
	for _, bad := range []string{"", " ", "bulkhead_", secret[:len(secret)-1], secret + "0", strings.ToUpper(secret), "x" + secret[1:], secret[:len(secret)-1] + "!"} {
		if _, err := s.Check(bad); !errors.Is(err, access.ErrUnknownToken) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	for _, name := range []string{"", "  ", "a\nb", strings.Repeat("x", 65), "\xff"} {
		if _, _, err := s.Add(name, []access.Scope{access.Admin}, time.Time{}); err == nil {
			t.Errorf("a token is called %q", name)
		}
	}
	if _, _, err := s.Add("kim", []access.Scope{"root"}, time.Time{}); err == nil {
		t.Error("a scope that there is not is taken")
	}
	if _, _, err := s.Add("kim", nil, time.Time{}); err == nil {
		t.Error("a token that may do nothing is made")
	}
}

func TestThereIsRoomFor64AndExpiredOnesMakeIt(t *testing.T) {
	c := &clock{today}
	s, _ := open(t, t.TempDir(), c)
	for range access.MaxTokens {
		add(t, s, "visitor", today.Add(time.Hour), access.Read)
	}
	if _, _, err := s.Add("alex", []access.Scope{access.Admin}, time.Time{}); !errors.Is(err, access.ErrTooMany) {
		t.Errorf("the 65th: got %v", err)
	}
	c.t = today.Add(2 * time.Hour)
	add(t, s, "alex", time.Time{}, access.Admin)
	if n := len(s.List()); n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}

func TestScopesStandForThemselvesAndAdminForAll(t *testing.T) {
	all := []access.Scope{access.Read, access.Plan, access.Apply, access.Update, access.Admin}
	for _, held := range all {
		for _, need := range all {
			want := held == need || held == access.Admin
			if got := access.Allow([]access.Scope{held}, need); got != want {
				t.Errorf("%s for %s: got %v", held, need, got)
			}
		}
	}
	if access.Allow(nil, access.Read) {
		t.Error("no scope is one")
	}
}

func TestDamageIsLoudAndCostsNoMoreThanItHas(t *testing.T) {
	dir, c := t.TempDir(), &clock{today}
	s, _ := open(t, dir, c)
	alex, _ := add(t, s, "alex", time.Time{}, access.Admin)
	kim, token := add(t, s, "kim", time.Time{}, access.Admin)
	path := filepath.Join(dir, access.File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte { return bytes.Replace(whole, []byte(old), []byte(new), 1) }

	for what, data := range map[string][]byte{
		"ID":    replace(`"`+token.ID+`"`, `"00000000"`),
		"scope": replace(`"admin"`, `"root"`),
		"type":  replace(`"kim"`, `7`),
		"twice": slices.Concat(whole[:bytes.LastIndexByte(whole, ']')], []byte(","), whole[bytes.IndexByte(whole, '[')+1:]),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir, c)
		_, err1 := s.Check(alex)
		_, err2 := s.Check(kim)
		if err1 != nil && err2 != nil {
			t.Errorf("%s: both tokens are lost", what)
		}
		if !strings.Contains(log.String(), "a token is lost") {
			t.Errorf("%s: log %q", what, log)
		}
	}

	for _, data := range [][]byte{{}, whole[:len(whole)/2], []byte("[]"), []byte("\x00\x00")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, log := open(t, dir, c)
		if s.Claimed() || !strings.Contains(log.String(), "claim the box at its console") {
			t.Errorf("%q: claimed %v, log %q", data, s.Claimed(), log)
		}
		aside, err := os.ReadFile(filepath.Join(dir, "tokens.damaged.json"))
		if err != nil || !bytes.Equal(aside, data) {
			t.Errorf("put aside: %q, %v", aside, err)
		}
		add(t, s, "alex", time.Time{}, access.Admin)
	}
}

func TestTokenThatCannotBeKeptIsNotGiven(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, &clock{today})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := s.Add("alex", []access.Scope{access.Admin}, time.Time{}); err == nil || secret != "" || s.Claimed() {
		t.Errorf("got %q, %v", secret, err)
	}
}

func FuzzTokensFile(f *testing.F) {
	f.Add([]byte(`{"tokens":[{"id":"e3b0c442","name":"alex","scopes":["admin"],"created":"2026-11-27T12:00:00Z","hash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}`))
	f.Add([]byte(`{"tokens":[{}, null, 7]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s := access.Open(dir, slog.New(slog.DiscardHandler), (&clock{today}).now)
		if s.Decode(data) != nil && len(s.List()) > 0 {
			t.Error("tokens out of a file that is none")
		}
		for _, token := range s.List() {
			if len(token.Scopes) == 0 || access.CheckName(token.Name) != nil {
				t.Errorf("taken: %+v", token)
			}
		}
		if len(s.List()) > access.MaxTokens {
			t.Errorf("%d tokens", len(s.List()))
		}
	})
}

func TestTokenGivesNoMoreThanItHas(t *testing.T) {
	const day = 24 * time.Hour
	owner := access.Token{Name: "alex", Scopes: []access.Scope{access.Admin}}
	visitor := access.Token{Name: "kim", Scopes: []access.Scope{access.Admin}, Expires: today.Add(10 * day)}
	planner := access.Token{Name: "job", Scopes: []access.Scope{access.Read, access.Plan}, Expires: today.Add(10 * day)}
	for _, c := range []struct {
		name    string
		by      access.Token
		scopes  []access.Scope
		expires time.Time
		why     string // it is refused; "" if it is not
	}{
		{"less", owner, []access.Scope{access.Read, access.Plan}, today.Add(90 * day), ""},
		{"a year", owner, []access.Scope{access.Admin}, today.AddDate(1, 0, 0), ""},
		{"as much", planner, []access.Scope{access.Plan}, today.Add(10 * day), ""},
		{"for ever", owner, []access.Scope{access.Read}, time.Time{}, "never expire"},
		{"two years", owner, []access.Scope{access.Read}, today.AddDate(2, 0, 0), "longer than a year: the box's clock says 2026-11-27T12:00:00Z"},
		{"over", owner, []access.Scope{access.Read}, today, "has expired"},
		{"outlives its maker", visitor, []access.Scope{access.Read}, today.Add(11 * day), `outlive the token "kim", which expires 2026-12-07T12:00:00Z`},
		{"more than its maker", planner, []access.Scope{access.Read, access.Apply}, today.Add(day), `the scope apply, which the token "job" does not have`},
		{"everything", planner, []access.Scope{access.Admin}, today.Add(day), "the scope admin"},
		{"unknown", owner, []access.Scope{"root"}, today.Add(day), `no scope "root": there are read, operate, plan, apply, update, admin`},
		{"twice", owner, []access.Scope{access.Read, access.Read}, today.Add(day), "twice"},
		{"nothing", owner, nil, today.Add(day), "name its scopes"},
		{"no\nname", owner, []access.Scope{access.Read}, today.Add(day), "cannot be printed"},
	} {
		s, _ := open(t, t.TempDir(), &clock{today})
		secret, token, err := s.Grant(c.by, access.TokenRequest{Name: c.name, Scopes: c.scopes, Expires: c.expires})
		switch {
		case c.why == "":
			if got, checkErr := s.Check(secret); err != nil || checkErr != nil || got.ID != token.ID || !got.Expires.Equal(c.expires) {
				t.Errorf("%s: got %+v, %v, %v", c.name, got, err, checkErr)
			}
		case !errors.Is(err, access.ErrGrant) || !strings.Contains(err.Error(), c.why) || secret != "" || len(s.List()) > 0:
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestNamesOfTokensAreToldApart(t *testing.T) {
	c := &clock{today}
	s, _ := open(t, t.TempDir(), c)
	owner := access.Token{Name: "alex", Scopes: []access.Scope{access.Admin}}
	grant := func() error {
		_, _, err := s.Grant(owner, access.TokenRequest{Name: "ci", Scopes: []access.Scope{access.Read}, Expires: c.t.Add(time.Hour)})
		return err
	}
	if err := grant(); err != nil {
		t.Fatal(err)
	}
	if err := grant(); !errors.Is(err, access.ErrTaken) {
		t.Errorf("while it lives: got %v", err)
	}
	c.t = c.t.Add(2 * time.Hour)
	if err := grant(); err != nil {
		t.Errorf("after it expired: %v", err)
	}
}
