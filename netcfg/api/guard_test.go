//go:build linux

package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
)

// guard knows one token for each scope, by its name.
type guard struct{ away bool }

func (g guard) Check(_ context.Context, secret string, need access.Scope) (auth.Caller, error) {
	switch {
	case g.away:
		return auth.Caller{}, fmt.Errorf("%w: gone", auth.ErrAway)
	case !strings.HasPrefix(secret, "token of "):
		return auth.Caller{}, &auth.Refusal{Status: http.StatusUnauthorized, Why: "nobody knows you"}
	}
	held := access.Scope(strings.TrimPrefix(secret, "token of "))
	if !access.Allow([]access.Scope{held}, need) {
		return auth.Caller{}, &auth.Refusal{Status: http.StatusForbidden, Why: "that takes " + string(need)}
	}
	return auth.Caller{Kind: auth.ByToken, Name: "kim"}, nil
}

// strangers serves b to who is not root.
func strangers(t *testing.T, b api.Backend, g auth.Guard) *api.Client {
	srv := httptest.NewServer(api.Handler(b, g))
	t.Cleanup(srv.Close)
	return api.NewClientOver(srv.Client(), srv.URL)
}

func TestWhoAsksIsJudgedByWhatTheyShow(t *testing.T) {
	b := backend{}
	client := strangers(t, b, guard{})
	as := func(secret string) *api.Client {
		return client.For(api.Behalf{Secret: secret, Address: netip.MustParseAddr("192.168.10.20"), Connected: 1})
	}
	status := func(c *api.Client) error {
		_, err := c.Status(t.Context())
		return err
	}
	for name, tt := range map[string]struct {
		client *api.Client
		want   error
	}{
		"nothing":                    {client, api.ErrStranger},
		"nonsense":                   {as("x"), api.ErrStranger},
		"a token for something else": {as("token of update"), api.ErrDenied},
		"a token to read":            {as("token of read"), nil},
		"while nobody knows":         {strangers(t, b, guard{away: true}).For(api.Behalf{Secret: "token of read"}), errors.New("any")},
		"where there is no guard":    {strangers(t, b, nil).For(api.Behalf{Secret: "token of read"}), api.ErrStranger},
	} {
		switch err := status(tt.client); {
		case tt.want == nil && err == nil, tt.want != nil && err != nil && (tt.want.Error() == "any" || errors.Is(err, tt.want)):
		default:
			t.Errorf("%s: %v", name, err)
		}
	}
	// The mode is on the page that everybody sees.
	if m, err := client.Mode(t.Context()); err != nil || m != api.Closed {
		t.Errorf("got %q, %v", m, err)
	}
}

func TestRequestsAreTheirCallers(t *testing.T) {
	var changes []api.Change
	b := backend{apply: func(c api.Change) (*api.Trial, error) {
		changes = append(changes, c)
		return new(api.Trial), nil
	}}
	here := netip.MustParseAddr("192.168.10.20")
	c := strangers(t, b, guard{}).For(api.Behalf{Secret: "token of apply", Address: here, Connected: 5 * time.Second})
	lie := api.Change{Author: "somebody else", Via: api.ViaConsole, Why: "because", Terms: api.Terms{Origin: api.Origin{Identity: "user:alex", Connected: 1 << 62}}}
	if _, err := c.Apply(t.Context(), lie); err != nil {
		t.Fatal(err)
	}
	want := api.Change{Author: "kim", Via: api.ViaAPI, Why: "because", Terms: api.Terms{Origin: api.Origin{Identity: "token:kim", Address: here, Connected: 5 * time.Second}}}
	if diff := cmp.Diff([]api.Change{want}, changes, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// scribe is a guard that keeps what is written down.
type scribe struct {
	guard
	said *[]audit.Entry
}

func (s scribe) Record(_ context.Context, e audit.Entry) error {
	*s.said = append(*s.said, e)
	return nil
}

func TestWhatIsDoneIsWrittenDown(t *testing.T) {
	var said []audit.Entry
	refuse := false
	b := backend{apply: func(api.Change) (*api.Trial, error) {
		if refuse {
			return nil, api.ErrInvalid
		}
		return new(api.Trial), nil
	}}
	here := netip.MustParseAddr("192.168.10.20")
	c := strangers(t, b, scribe{said: &said}).For(api.Behalf{Secret: "token of admin", Address: here, Connected: 1})
	if _, err := c.Apply(t.Context(), api.Change{}); err != nil {
		t.Fatal(err)
	}
	refuse = true // what was refused was not done
	if _, err := c.Apply(t.Context(), api.Change{}); err == nil {
		t.Fatal("it is not refused")
	}
	if _, err := c.Status(t.Context()); err != nil { // and what was only looked at is no deed
		t.Fatal(err)
	}
	want := []audit.Entry{{Who: "token:kim", From: here, What: "change tried"}}
	if diff := cmp.Diff(want, said, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every route that changes something is one that is written down.
func TestNoDeedIsForgotten(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]bool{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`mux\.handle\("([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			routes[m[1]] = true
		}
	}
	if len(routes) < 20 {
		t.Fatalf("only %d routes were found", len(routes))
	}
	for route := range routes {
		if reads := strings.HasPrefix(route, "GET ") || route == "POST /v1/plan"; !reads && api.Deeds()[route] == "" {
			t.Errorf("%s has no name in the audit log", route)
		}
	}
	for route := range api.Deeds() {
		if !routes[route] {
			t.Errorf("there is no %s", route)
		}
	}
}
