//go:build linux

package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/auth/access"
	"bulkhead/services/auth/api"
	"bulkhead/services/auth/authtest"
	"bulkhead/services/auth/totp"
	"bulkhead/services/run"
)

const pass = "four green kettles sing"

var (
	laptop = netip.MustParseAddr("192.168.10.20")
	site   = api.Site{Host: "gw.home.arpa", Origin: "https://gw.home.arpa", Box: "gw"}
)

// service is an authd.
type service struct {
	t    *testing.T
	dirs run.Dirs
	*api.Client
	stop func()
}

func start(t *testing.T) *service {
	t.Helper()
	base, err := os.MkdirTemp("", "auth") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	s := &service{t: t, dirs: run.Dirs{Run: filepath.Join(base, "run"), State: filepath.Join(base, "state")}}
	s.Client, s.stop = authtest.Start(t, s.dirs, slog.New(slog.DiscardHandler))
	return s
}

func (s *service) try(secret, method, path string, in, out any) error {
	return s.Call(s.t.Context(), api.Asker{Secret: secret, From: laptop, Agent: "test"}, method, path, in, out)
}

func (s *service) must(secret, method, path string, in, out any) {
	s.t.Helper()
	if err := s.try(secret, method, path, in, out); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// code is the one on the console.
func (s *service) code() string {
	s.t.Helper()
	var o api.Ownership
	s.must("", "POST", "/v1/claim/code", api.None{}, &o)
	return o.Code
}

// claim makes alex the owner, in a browser.
func (s *service) claim() (session string) {
	s.t.Helper()
	var out api.Claimed
	s.must("", "POST", "/v1/claim", api.Claim{Name: "alex", Code: s.code()}, &out)
	return out.Secret
}

// as makes a user and lets them in by an invitation.
func (s *service) as(admin, name string, role access.Role) (session string) {
	s.t.Helper()
	var v api.Invitation
	s.must(admin, "POST", "/v1/users", api.NewUser{Name: name, Role: role}, &v)
	var out api.Session
	s.must("", "POST", "/v1/login/invitation", api.Redeem{Code: strings.ToLower(v.Code) + " "}, &out)
	return out.Secret
}

func status(err error) int {
	if r, ok := errors.AsType[*api.Refusal](err); ok {
		return r.Status
	}
	if err != nil {
		return -1
	}
	return http.StatusOK
}

func TestBrowserClaimsAndLogsIn(t *testing.T) {
	s := start(t)
	var o api.Ownership
	s.must("", "GET", "/v1/claim", nil, &o)
	if o.Claimed || o.Code == "" {
		t.Errorf("before: %+v", o)
	}
	if err := s.try("", "POST", "/v1/claim", api.Claim{Name: "alex", Code: "AAAA-AAAA-AAAA-AAAA"}, nil); status(err) == http.StatusOK {
		t.Error("a wrong code is taken")
	}
	session := s.claim()
	var code api.Code
	s.must(session, "POST", "/v1/me/code", site, &code)
	secret, err := totp.Parse(code.Secret)
	if err != nil || !strings.HasPrefix(code.URI, "otpauth://totp/gw:alex?") {
		t.Fatalf("got %+v, %v", code, err)
	}
	if err := s.try(session, "PUT", "/v1/me/password", api.NewPassword{Password: pass, Secret: code.Secret, Code: "12345"}, nil); status(err) != http.StatusForbidden {
		t.Errorf("a wrong code: %v", err)
	}
	s.must(session, "PUT", "/v1/me/password", api.NewPassword{Password: pass, Secret: code.Secret, Code: secret.Code(time.Now())}, nil)
	s.must("", "GET", "/v1/claim", nil, &o)
	if !o.Claimed {
		t.Error("the box has no owner")
	}
	var in api.Session
	s.must("", "POST", "/v1/login", api.Login{User: "alex", Password: pass, Code: secret.Code(time.Now().Add(30 * time.Second))}, &in)
	c, err := s.Check(t.Context(), in.Secret, access.Admin)
	if err != nil || c.Identity() != "user:alex" || c.Role != access.Administrator {
		t.Errorf("got %+v, %v", c, err)
	}
	s.must(in.Secret, "POST", "/v1/logout", api.None{}, nil)
	if _, err := s.Check(t.Context(), in.Secret, ""); !errors.Is(err, api.ErrUnknown) {
		t.Errorf("after logging out: %v", err)
	}
	var a api.Audit
	s.must(session, "GET", "/v1/audit", nil, &a)
	var got []string
	for i := len(a.Entries) - 1; i >= 0; i-- {
		e := a.Entries[i]
		got = append(got, strings.TrimSpace(e.Who+" "+e.What+" "+e.Of))
		if e.What == "login" && e.From != laptop {
			t.Errorf("a login from %s", e.From)
		}
	}
	want := "claim refused alex|claim code made|user:alex box claimed|user:alex password set alex|user:alex login|user:alex logout"
	if g := strings.Join(got, "|"); g != want {
		t.Errorf("the audit log has %q", got)
	}
}

func TestProgramClaims(t *testing.T) {
	s := start(t)
	code, err := access.ParseCode(s.code())
	if err != nil {
		t.Fatal(err)
	}
	exporter := []byte("of this session")
	claim := func(proof []byte) (out api.Claimed, err error) {
		return out, s.try("", "POST", "/v1/claim", api.Claim{Name: "laptop", Exporter: exporter, Proof: proof}, &out)
	}
	if _, err := claim(code.Proof(access.Client, []byte("of another"))); status(err) != http.StatusForbidden {
		t.Errorf("a proof of another session: %v", err)
	}
	out, err := claim(code.Proof(access.Client, exporter))
	if err != nil || !code.Verify(access.Server, exporter, out.Proof) {
		t.Fatalf("got %+v, %v", out, err)
	}
	c, err := s.Check(t.Context(), out.Secret, access.Admin)
	if err != nil || c.Identity() != "token:laptop" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := claim(code.Proof(access.Client, exporter)); status(err) != http.StatusForbidden {
		t.Errorf("a code is taken twice: %v", err)
	}
	var t1 access.TokenAnswer
	s.must(out.Secret, "POST", "/v1/tokens", access.TokenRequest{Name: "ci", Scopes: []access.Scope{access.Plan}, Expires: time.Now().Add(time.Hour)}, &t1)
	if _, err := s.Check(t.Context(), t1.Secret, access.Apply); !errors.Is(err, api.ErrForbidden) || !strings.Contains(err.Error(), `"ci"`) {
		t.Errorf("a token to plan with applies: %v", err)
	}
	if _, err := s.Check(t.Context(), t1.Secret, access.Plan); err != nil {
		t.Error(err)
	}
	s.must(out.Secret, "DELETE", "/v1/tokens/"+t1.ID, nil, nil)
	if _, err := s.Check(t.Context(), t1.Secret, access.Plan); !errors.Is(err, api.ErrUnknown) {
		t.Errorf("a revoked token: %v", err)
	}
	// A claim code at the console makes an owner of a box that has one.
	if session := s.claim(); session == "" {
		t.Error("no session")
	}
}

// What each role gets to: its own account, and what its scopes open.
func TestRoles(t *testing.T) {
	s := start(t)
	admin := s.claim()
	secrets := map[string]string{
		"nobody": "", "a stranger": "bulkhead_session_00", "viewer": s.as(admin, "vi", access.Viewer), "operator": s.as(admin, "op", access.Operator), "admin": admin,
	}
	var token access.TokenAnswer
	s.must(admin, "POST", "/v1/tokens", access.TokenRequest{Name: "t", Scopes: []access.Scope{access.Apply}, Expires: time.Now().Add(time.Hour)}, &token)
	secrets["a token to apply with"] = token.Secret
	mine := []string{"GET /v1/me", "POST /v1/me/code", "POST /v1/me/passkeys/begin", "GET /v1/me/sessions", "DELETE /v1/me/sessions/0", "PUT /v1/me/password", "DELETE /v1/me/password", "POST /v1/me/passkeys", "DELETE /v1/me/passkeys/0"}
	all := []string{
		"GET /v1/users", "POST /v1/users", "PUT /v1/users/nobody/role", "POST /v1/users/nobody/invitation", "DELETE /v1/users/nobody", "GET /v1/sessions",
		"DELETE /v1/sessions/0", "GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/0", "GET /v1/audit",
	}
	for who, secret := range secrets {
		for i, list := range [][]string{mine, all} {
			for _, ask := range list {
				got := status(nonsense(s, secret, ask))
				want := "in"
				switch {
				case secret == "" || who == "a stranger":
					want = "401"
				case i == 0 && who == "a token to apply with", i == 1 && who != "admin":
					want = "403"
				}
				if want == "in" && (got == 401 || got == 403) || want != "in" && fmt.Sprint(got) != want {
					t.Errorf("%s, %s: %d, want %s", who, ask, got, want)
				}
			}
		}
	}
	for scope, want := range map[access.Scope]string{
		access.Read: "viewer operator admin", access.Plan: "operator admin", access.Operate: "operator admin", access.Apply: "admin", access.Update: "admin", access.Admin: "admin",
	} {
		for _, who := range []string{"viewer", "operator", "admin"} {
			_, err := s.Check(t.Context(), secrets[who], scope)
			if (err == nil) != strings.Contains(want, who) {
				t.Errorf("%s may %s: %v", who, scope, err)
			}
		}
	}
}

// nonsense asks with a body that is no body, and returns what comes back.
func nonsense(s *service, secret, ask string) error {
	method, path, _ := strings.Cut(ask, " ")
	var in any
	if method == "POST" || method == "PUT" {
		in = json.RawMessage(`{"nonsense":1}`)
	}
	return s.try(secret, method, path, in, nil)
}

func TestUsersAreManaged(t *testing.T) {
	s := start(t)
	admin := s.claim()
	kim := s.as(admin, "kim", access.Viewer)
	if err := s.try(admin, "POST", "/v1/users", api.NewUser{Name: "kim", Role: access.Viewer}, nil); status(err) != http.StatusConflict {
		t.Errorf("a second kim: %v", err)
	}
	if err := s.try(admin, "POST", "/v1/users", api.NewUser{Name: "../x", Role: access.Viewer}, nil); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("a name that is none: %v", err)
	}
	s.must(admin, "PUT", "/v1/users/kim/role", api.NewRole{Role: access.Operator}, nil)
	if c, err := s.Check(t.Context(), kim, access.Operate); err != nil || c.Role != access.Operator {
		t.Errorf("got %+v, %v", c, err)
	}
	var v, w api.Invitation
	s.must(admin, "POST", "/v1/users/kim/invitation", api.None{}, &v)
	s.must(admin, "POST", "/v1/users/kim/invitation", api.None{}, &w)
	if err := s.try("", "POST", "/v1/login/invitation", api.Redeem{Code: v.Code}, nil); status(err) != http.StatusForbidden {
		t.Errorf("an invitation that was replaced: %v", err)
	}
	s.must(admin, "DELETE", "/v1/users/kim", nil, nil)
	if err := s.try("", "POST", "/v1/login/invitation", api.Redeem{Code: w.Code}, nil); status(err) != http.StatusForbidden {
		t.Errorf("the invitation of a user who is gone: %v", err)
	}
	if _, err := s.Check(t.Context(), kim, ""); !errors.Is(err, api.ErrUnknown) {
		t.Errorf("the session of a user who is gone: %v", err)
	}
	s.must("", "POST", "/v1/audit", map[string]string{"what": "secrets listed", "who": "user:alex"}, nil)
	var a api.Audit
	s.must(admin, "GET", "/v1/audit?limit=1", nil, &a)
	if len(a.Entries) != 1 || a.Entries[0].What != "secrets listed" || a.Entries[0].Time.IsZero() {
		t.Errorf("got %+v", a)
	}
}

// A certificate of somebody who is gone must not be that of who has the name next.
func TestHoldersAreNotTheirNames(t *testing.T) {
	s := start(t)
	admin := s.claim()
	present := func(asked ...api.Holder) (list []api.Holding) {
		t.Helper()
		s.must("", "POST", "/v1/holders", api.Holders{Holders: asked}, &list)
		return list
	}
	holder := func(secret string) api.Holder {
		t.Helper()
		c, err := s.Check(t.Context(), secret, "")
		if err != nil || c.ID == "" {
			t.Fatalf("got %+v, %v", c, err)
		}
		return c.Holder()
	}
	token := func() (out access.TokenAnswer) {
		t.Helper()
		s.must(admin, "POST", "/v1/tokens", access.TokenRequest{Name: "kim", Scopes: []access.Scope{access.Read}, Expires: time.Now().Add(time.Hour)}, &out)
		return out
	}
	kim, ci := holder(s.as(admin, "kim", access.Viewer)), token()
	ciHolder := holder(ci.Secret)
	want := []api.Holding{{Holder: kim, Scopes: []access.Scope{access.Read}}, {Holder: ciHolder, Scopes: []access.Scope{access.Read}}}
	stranger := api.Holder{Kind: api.BySession, Name: ciHolder.Name, ID: ciHolder.ID} // a token's ID is no user's
	if diff := cmp.Diff(want, present(kim, stranger, ciHolder)); diff != "" {
		t.Errorf("who is there differs (-want +got):\n%s", diff)
	}
	s.must(admin, "PUT", "/v1/users/kim/role", api.NewRole{Role: access.Operator}, nil)
	if got := present(kim); len(got) != 1 || len(got[0].Scopes) != 3 {
		t.Errorf("with another role: %+v", got)
	}

	s.must(admin, "DELETE", "/v1/users/kim", nil, nil)
	s.must(admin, "DELETE", "/v1/tokens/"+ci.ID, nil, nil)
	again, next := holder(s.as(admin, "kim", access.Viewer)), holder(token().Secret)
	if again == kim || next == ciHolder {
		t.Error("who has a name again is who had it before")
	}
	if got := present(kim, ciHolder); len(got) != 0 {
		t.Errorf("who is gone is there: %+v", got)
	}
	if err := s.try("", "POST", "/v1/holders", api.Holders{Holders: make([]api.Holder, api.MaxHolders+1)}, nil); status(err) != http.StatusUnprocessableEntity {
		t.Errorf("too many at once: %v", err)
	}
}

// By another clock it may not have expired: what it holds is not up for others to drop.
func TestExpiredTokenIsThereAndMayNothing(t *testing.T) {
	s := start(t)
	admin := s.claim()
	var ci access.TokenAnswer
	s.must(admin, "POST", "/v1/tokens", access.TokenRequest{Name: "ci", Scopes: []access.Scope{access.Admin}, Expires: time.Now().Add(time.Hour)}, &ci)
	s.stop()
	path := filepath.Join(s.dirs.StateDir("authd"), access.File)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = regexp.MustCompile(`"expires": "[^"]+"`).ReplaceAll(data, []byte(`"expires": "2001-09-09T01:46:40Z"`))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Client, s.stop = authtest.Start(t, s.dirs, slog.New(slog.DiscardHandler))
	if _, err := s.Check(t.Context(), ci.Secret, ""); !errors.Is(err, api.ErrUnknown) {
		t.Fatalf("it has not expired: %v", err)
	}
	holder := api.Holder{Kind: api.ByToken, Name: "ci", ID: ci.ID}
	var got []api.Holding
	s.must("", "POST", "/v1/holders", api.Holders{Holders: []api.Holder{holder, {Kind: api.ByToken, Name: "other", ID: ci.ID}}}, &got)
	if diff := cmp.Diff([]api.Holding{{Holder: holder, Scopes: []access.Scope{}}}, got); diff != "" {
		t.Errorf("who is there differs (-want +got):\n%s", diff)
	}
}

func TestCertificatesAreWrittenDownUnderWhoAsked(t *testing.T) {
	s := start(t)
	admin := s.claim()
	note := api.CertificateNote{Label: "laptop", Of: "user:kim"}
	if err := s.try("", "POST", "/v1/audit/certificate", note, nil); status(err) != http.StatusUnauthorized {
		t.Errorf("nobody: %v", err)
	}
	s.must(s.as(admin, "kim", access.Viewer), "POST", "/v1/audit/certificate", note, nil)
	note.Revoked = true
	s.must(admin, "POST", "/v1/audit/certificate", note, nil)
	var a api.Audit
	s.must(admin, "GET", "/v1/audit?limit=2", nil, &a)
	var got []string
	for _, e := range a.Entries {
		got = append(got, strings.Join([]string{e.Who, e.What, e.Of, e.More}, " "))
	}
	want := []string{"user:alex client certificate revoked laptop of user:kim", "user:kim client certificate made laptop of user:kim"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries differ (-want +got):\n%s", diff)
	}
}
