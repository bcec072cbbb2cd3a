//go:build linux

package update_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	diag "bulkhead/services/diag/api"
	"bulkhead/services/sock"
	"bulkhead/services/update/api"
)

// guard knows an operator and an admin by secrets of the same names, and keeps what they did.
type guard struct {
	mu      sync.Mutex
	entries []string
	full    bool // nothing can be written down
}

func (g *guard) Check(_ context.Context, secret string, need access.Scope) (auth.Caller, error) {
	c := auth.Caller{Kind: auth.BySession, Name: secret, Scopes: access.Role(secret).Scopes()}
	if !access.Allow(c.Scopes, need) {
		return auth.Caller{}, &auth.Refusal{Status: http.StatusForbidden, Why: "that takes a user who may " + string(need)}
	}
	return c, nil
}

func (g *guard) Record(_ context.Context, e audit.Entry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.full {
		return errors.New("the disk is full")
	}
	g.entries = append(g.entries, fmt.Sprint(e.Who, " ", e.From, " ", e.What, " ", e.Of, " ", e.More))
	return nil
}

// diagd serves what a function says to what it is asked, until the test ends.
func (b *box) diagd(say http.HandlerFunc) {
	b.t.Helper()
	dir := b.dirs.RunDir(svcconf.Diagd.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	l, err := sock.Listen(filepath.Join(dir, svcconf.DiagSocket), -1)
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: say}
	go srv.Serve(l)
	b.t.Cleanup(func() { srv.Close() })
}

func (b *box) as(secret string) *api.Client {
	return api.NewClientAs(filepath.Join(b.dirs.Run, api.SocketFile), secret, netip.MustParseAddr("192.168.10.5"))
}

func TestDiagdIsAskedForThoseWhoMay(t *testing.T) {
	b := newBox(t)
	if err := b.as("operator").Ping(t.Context(), diag.Ping{Target: "tv"}, nil); err == nil || !strings.Contains(err.Error(), "the service that looks at the network does not answer") {
		t.Errorf("without diagd: got %v", err)
	}
	var asked []string
	b.diagd(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.URL.Path+" "+string(body))
		switch {
		case r.URL.Path == "/v1/capture" && strings.Contains(string(body), "attic"):
			w.WriteHeader(422)
			fmt.Fprint(w, `{"error":"there is no zone attic"}`)
		case r.URL.Path == "/v1/capture":
			fmt.Fprint(w, "packets")
		case r.URL.Path == "/v1/ping":
			fmt.Fprint(w, `{"number":1,"target":"192.168.40.7"}`+"\n"+`{"number":2,"target":"192.168.40.7"}`+"\n")
		default:
			fmt.Fprint(w, `{"number":1,"echoes":[],"reached":true}`+"\n")
		}
	})
	n := 0
	if err := b.as("operator").Ping(t.Context(), diag.Ping{Target: "tv"}, func(e diag.Echo) { n += e.Number }); err != nil || n != 3 {
		t.Errorf("ping: got %d, %v", n, err)
	}
	if err := b.client.Traceroute(t.Context(), diag.Traceroute{Target: "203.0.113.9", Hops: 5}, func(h diag.Hop) { n += h.Number }); err != nil || n != 4 {
		t.Errorf("traceroute: got %d, %v", n, err)
	}
	file, err := b.as("admin").Capture(t.Context(), diag.Capture{Zone: "iot", Filter: "arp"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if data, err := io.ReadAll(file); string(data) != "packets" || err != nil {
		t.Errorf("capture: got %q, %v", data, err)
	}
	refused := func(what string, err error, status int, why string) {
		t.Helper()
		r, ok := errors.AsType[*api.Refused](err)
		if !ok || r.Status != status || !strings.Contains(r.Why, why) {
			t.Errorf("%s: got %v, want %d %s", what, err, status, why)
		}
	}
	_, err = b.as("operator").Capture(t.Context(), diag.Capture{Zone: "iot"})
	refused("an operator captures", err, 403, "may admin")
	refused("a viewer pings", b.as("viewer").Ping(t.Context(), diag.Ping{Target: "tv"}, nil), 403, "may operate")
	refused("an unknown name", b.client.Ping(t.Context(), diag.Ping{Target: "radio"}, nil), 422, "radio is unknown")
	refused("everybody", b.client.Ping(t.Context(), diag.Ping{Target: "255.255.255.255"}, nil), 422, "not the address of one host")
	refused("too often", b.client.Ping(t.Context(), diag.Ping{Target: "tv", Count: 11}, nil), 422, "count: 11")
	refused("too far", b.client.Traceroute(t.Context(), diag.Traceroute{Target: "tv", Hops: 31}, nil), 422, "hops: 31")
	_, err = b.client.Capture(t.Context(), diag.Capture{Zone: "iot", Seconds: 61})
	refused("too long", err, 422, "seconds: 61")
	_, err = b.client.Capture(t.Context(), diag.Capture{Zone: "attic"})
	refused("an unknown zone", err, 422, "there is no zone attic")
	b.guard.mu.Lock()
	b.guard.full = true
	b.guard.mu.Unlock()
	_, err = b.as("admin").Capture(t.Context(), diag.Capture{Zone: "iot"})
	refused("what nobody can write down", err, 503, "the disk is full")
	refused("echoes that nobody can write down", b.as("operator").Ping(t.Context(), diag.Ping{Target: "tv"}, nil), 503, "the disk is full")
	_, err = b.as("admin").Capture(t.Context(), diag.Capture{Zone: "iot", Filter: strings.Repeat("not ", 40) + "arp"})
	refused("what cannot be written down as a whole", err, 422, "160 bytes")

	if diff := cmp.Diff([]string{
		`/v1/ping {"target":"192.168.40.7","count":4}`,
		`/v1/traceroute {"target":"203.0.113.9","hops":5}`,
		`/v1/capture {"zone":"iot","filter":"arp","packets":1000,"bytes":8388608,"seconds":30,"snap":65535,"without":"192.168.10.5"}`,
		`/v1/capture {"zone":"attic","packets":1000,"bytes":8388608,"seconds":30,"snap":65535}`,
		`/v1/capture {"zone":"iot","packets":1000,"bytes":8388608,"seconds":30,"snap":65535,"without":"192.168.10.5"}`,
	}, asked); diff != "" {
		t.Errorf("diagd was asked (-want +got):\n%s", diff)
	}
	want := []string{
		"user:operator 192.168.10.5 ping tv 192.168.40.7", // before diagd was asked, which was not there
		"user:operator 192.168.10.5 ping tv 192.168.40.7", "root invalid IP traceroute 203.0.113.9 ", "user:admin 192.168.10.5 packets captured iot arp",
	}
	if !slices.Equal(b.guard.entries, want) {
		t.Errorf("written down is %q, want %q", b.guard.entries, want)
	}
}

// TestWhatDiagdLeavesUndoneIsNotWhole: a diagd that ends in the middle leaves an answer that
// nobody takes for one.
func TestWhatDiagdLeavesUndoneIsNotWhole(t *testing.T) {
	b := newBox(t)
	b.diagd(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"number":1,"target":"192.168.40.7"}`+"\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if err := b.client.Ping(t.Context(), diag.Ping{Target: "tv"}, func(diag.Echo) {}); err == nil {
		t.Error("half of the echoes pass for all of them")
	}
	file, err := b.client.Capture(t.Context(), diag.Capture{Zone: "iot"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if data, err := io.ReadAll(file); err == nil {
		t.Errorf("%q passes for all of it", data)
	}
}

// TestDiagdEndsWithWhoAsked: nobody goes on looking at packets for who has left.
func TestDiagdEndsWithWhoAsked(t *testing.T) {
	b := newBox(t)
	ended := make(chan struct{})
	b.diagd(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "begun")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(ended)
	})
	ctx, leave := context.WithCancel(t.Context())
	file, err := b.client.Capture(ctx, diag.Capture{Zone: "iot"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.ReadFull(file, make([]byte, 5)); err != nil { // as it comes
		t.Fatal(err)
	}
	leave()
	<-ended
}
