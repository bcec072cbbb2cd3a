//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/strictjson"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/authtest"
	"bulkhead/services/run"
	"bulkhead/services/sock"
	updates "bulkhead/services/update/api"
	"bulkhead/webui"
	"bulkhead/webui/remote"
)

// box is a running webui on addresses of the loopback network, with a netcfgd and an
// updated that the test made up.
type box struct {
	t                testing.TB
	o                webui.Options
	log              *nstest.Output
	access           *auth.Client
	stop, stopAccess func()

	mu       sync.Mutex
	changes  []api.Change // that netcfgd was asked for
	secretBy string       // who set the last secret
}

// backend is the made-up netcfgd.
type backend struct {
	api.Backend // nil: what a test does not expect to be asked panics
	box         *box
}

func (b backend) Status(context.Context) (*api.Status, error) {
	return &api.Status{Name: "gw", Mode: api.Running}, nil
}

func (b backend) Plan(_ context.Context, p api.Proposal) (*api.Plan, error) {
	return &api.Plan{Path: &impact.Path{Address: p.Origin.Address}}, nil
}

func (b backend) Apply(_ context.Context, c api.Change) (*api.Trial, error) {
	if c.Window > api.Window(time.Hour) {
		return nil, api.Tell(api.ErrInvalid, errors.New("the window is too long"))
	}
	b.box.mu.Lock()
	defer b.box.mu.Unlock()
	b.box.changes = append(b.box.changes, c)
	return &api.Trial{}, nil
}

func (b backend) SetSecret(_ context.Context, _ string, v api.NewSecret) (*api.Done, error) {
	b.box.secretBy = v.Author
	return &api.Done{}, nil
}

func (b backend) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	return b.Apply(ctx, api.Change{Author: u.Author, Via: u.Via, Why: "undo", Terms: u.Terms})
}

func (b backend) Confirm(ctx context.Context, c api.Confirm) (*api.Confirmed, error) {
	_, err := b.Apply(ctx, api.Change{Why: "confirm", Terms: api.Terms{Origin: c.Origin}})
	return new(api.Confirmed), err
}

func (b backend) Cancel(ctx context.Context, c api.Cancel) (*api.Outcome, error) {
	_, err := b.Apply(ctx, api.Change{Author: c.Author, Why: "cancel", Terms: api.Terms{Origin: c.Origin}})
	return new(api.Outcome), err
}

func (b backend) Isolate(ctx context.Context, in api.Isolate) (*api.Isolation, error) {
	_, err := b.Apply(ctx, api.Change{Author: in.Author, Via: in.Via, Why: "isolate", Terms: api.Terms{Origin: in.Origin}})
	return new(api.Isolation), err
}

func (b backend) Release(ctx context.Context, in api.Release) (*api.Isolation, error) {
	_, err := b.Apply(ctx, api.Change{Author: in.Author, Via: in.Via, Why: "release", Terms: api.Terms{Origin: in.Origin}})
	return new(api.Isolation), err
}

func (b backend) Pending(context.Context) (*api.Trials, error) { return new(api.Trials), nil }

// newBox makes the directories and a netcfgd. It starts nothing else.
func newBox(t *testing.T) *box {
	t.Helper()
	b := newEmptyBox(t)
	b.netcfgd(api.NewServer(backend{box: b}, auth.NewClient(b.o.Authd), slog.New(slog.DiscardHandler)))
	return b
}

// newEmptyBox makes the directories.
func newEmptyBox(t testing.TB) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "web") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &box{t: t, log: new(nstest.Output), o: webui.Options{
		Base: dir, Run: filepath.Join(dir, "webuid"), State: filepath.Join(dir, "perm"), Image: filepath.Join(dir, "image.json"), Bill: filepath.Join(dir, "sbom.json"),
		Netcfgd: filepath.Join(dir, api.SocketFile), Updated: filepath.Join(dir, "updated.sock"), Flowd: filepath.Join(dir, "flows.sock"), Exportd: filepath.Join(dir, "export.sock"), Authd: filepath.Join(dir, auth.SocketFile),
		HTTPS: freePort(t), HTTP: freePort(t),
	}}
	for _, d := range []string{b.o.Run, b.o.State} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.access, b.stopAccess = authtest.Start(t, run.Dirs{Run: dir, State: b.o.State}, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// netcfgd starts a made-up netcfgd.
func (b *box) netcfgd(srv *http.Server) {
	b.t.Helper()
	l, err := api.Listen(filepath.Dir(b.o.Netcfgd))
	if err != nil {
		b.t.Fatal(err)
	}
	serve(b.t, l, srv)
}

func serve(t testing.TB, l net.Listener, srv *http.Server) {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// freePort returns a port of the loopback network on which nothing listens, and keeps it for
// the test: a socket that is bound, and does not listen, is in the way of nobody who asks for
// this very port, while the kernel gives the port to nobody who asks for any.
func freePort(t testing.TB) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, new(unix.SockaddrInet4)))
	if err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(at.(*unix.SockaddrInet4).Port)
}

// start starts the service and configures it.
func (b *box) start(c svcconf.Web) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- webui.Serve(ctx, slog.New(slog.NewTextHandler(b.log, nil)), b.o) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.t.Errorf("served until %v", err)
		}
	})
	b.t.Cleanup(b.stop)
	b.configure(c)
}

// configure writes the configuration and waits until it is followed.
func (b *box) configure(c svcconf.Web) {
	b.t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.o.Run, svcconf.ConfigFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		b.t.Fatal(err)
	}
	for _, a := range c.Listen {
		b.eventually("something listens on "+a.String(), func() bool { return b.listens(a.String()) })
	}
}

func (b *box) listens(addr string) bool {
	for _, port := range []uint16{b.o.HTTPS, b.o.HTTP} {
		c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String())
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

func (b *box) eventually(what string, ok func() bool) {
	b.t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("never came true: %s\n%s", what, b.log)
}

func (b *box) url(host string) string { return fmt.Sprintf("https://%s:%d", host, b.o.HTTPS) }

// control asks as the console does; with POST, for a new code.
func (b *box) control(method string) access.State {
	b.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.o.Run, webui.ControlSocket))
		}}}
	// It is the last that the service opens.
	b.eventually("the control socket is there", func() bool {
		_, err := os.Stat(filepath.Join(b.o.Run, webui.ControlSocket))
		return err == nil
	})
	resp, err := client.Get("http://webuid/v1/identity")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	s, err := authtest.Ownership(b.t.Context(), b.access, method == "POST")
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.NewDecoder(resp.Body).Decode(&s.Identity); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// claim claims the box with a code.
func (b *box) claim(code string) (*remote.Profile, error) {
	b.t.Helper()
	parsed, err := access.ParseCode(code)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := remote.Look(b.t.Context(), b.url("127.0.0.1"))
	if err != nil {
		return nil, err
	}
	p, err := c.Redeem(b.t.Context(), parsed, "alex", nil)
	if err != nil {
		return nil, err
	}
	return p.Profile, nil
}

func (b *box) claimed() *remote.Profile {
	b.t.Helper()
	p, err := b.claim(b.control("GET").Code)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// claimedAgain is claimed, of a box that has an owner.
func (b *box) claimedAgain() *remote.Profile {
	b.t.Helper()
	p, err := b.claim(b.control("POST").Code)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// raw asks without what a client of ours knows.
func (b *box) raw(method, url, host string, header http.Header, body string) (*http.Response, string) {
	b.t.Helper()
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(data)
}

var conf1 = svcconf.Web{Name: "gw", Domain: "home.arpa", Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}

// A workstation may have a way to the box of its own.
func TestBoxIsClaimedByTheWayThatIsGiven(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	way := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS))
	}
	code, err := access.ParseCode(b.control("GET").Code)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.LookVia(t.Context(), "https://gw.home.arpa", way)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Redeem(t.Context(), code, "alex", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.NewVia(p.Profile, way).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBoxIsClaimedOnceAndKnowsItsOwnerThen(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	state := b.control("GET")
	if state.Claimed || state.Code == "" || !slices.Equal(state.Addresses, conf1.Listen) {
		t.Fatalf("before: %+v", state)
	}
	p, err := b.claim(state.Code)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "gw" || p.Fingerprint != state.Fingerprint {
		t.Errorf("got profile %+v", p)
	}
	if s, err := remote.New(p).Status(t.Context()); err != nil || s.Name != "gw" {
		t.Errorf("status: got %v, %v", s, err)
	}
	if _, err := b.claim(state.Code); err == nil || !strings.Contains(err.Error(), "there is no claim code") {
		t.Errorf("the code again: got %v", err)
	}
	state = b.control("GET")
	if !state.Claimed || state.Code != "" {
		t.Errorf("after: %+v", state)
	}
	// Who loses the token sets a code at the console.
	state = b.control("POST")
	if _, err := b.claim(access.NewCode().String()); err == nil || !strings.Contains(err.Error(), "the claim code is wrong") {
		t.Errorf("a wrong code: got %v", err)
	}
	if _, err := b.claim(state.Code); err != nil {
		t.Errorf("a new code: %v", err)
	}
	if log := b.log.String(); strings.Contains(log, p.Token) || strings.Contains(log, state.Code) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

func TestOwnerKeyAndCertificateSurviveARestart(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	leaf := func() string { return hex.EncodeToString(b.leaf("127.0.0.1")) }
	before := leaf()
	b.stop()
	b.start(conf1)
	if _, err := remote.New(p).Status(t.Context()); err != nil {
		t.Error(err)
	}
	if leaf() != before {
		t.Error("the certificate is another: browsers have to be asked again")
	}
	info, err := os.Stat(filepath.Join(b.o.State, "identity.pem"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
}

func (b *box) leaf(host string) []byte {
	b.t.Helper()
	sum := sha256.Sum256(b.certificate(host))
	return sum[:]
}

func TestAddressesComeAndGoAndTheKeyStays(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	// A connection that is open when its address is taken away gets its answer.
	old, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()

	two, three := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	b.configure(svcconf.Web{Name: "gate", Listen: []netip.Addr{two, three}})
	b.eventually("nothing listens on 127.0.0.1", func() bool { return !b.listens("127.0.0.1") })
	p.URL, p.Also = b.url("127.0.0.1"), []string{b.url("127.0.0.3")}
	if err := p.Locate(t.Context()); err != nil || p.URL != b.url("127.0.0.3") {
		t.Fatalf("found at %s: %v", p.URL, err)
	}
	if _, err := remote.New(p).Status(t.Context()); err != nil {
		t.Error(err)
	}
	fmt.Fprintf(old, "GET /api/v1/health HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(old)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("the open connection: got %q, %v", answer, err)
	}
	b.configure(svcconf.Web{Name: "gate", Listen: []netip.Addr{three}})
	b.eventually("nothing listens on 127.0.0.2", func() bool { return !b.listens("127.0.0.2") })
	if _, err := remote.New(p).Status(t.Context()); err != nil {
		t.Errorf("the address that stayed: %v", err)
	}
}

func TestAddressThatIsNotThereYetIsListenedOn(t *testing.T) {
	b := newBox(t)
	c := conf1
	c.Listen = append([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, c.Listen...)
	b.start(svcconf.Web{})
	data, _ := json.Marshal(c)
	if err := os.WriteFile(filepath.Join(b.o.Run, svcconf.ConfigFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.eventually("the others are served", func() bool { return b.listens("127.0.0.1") })
	if log := b.log.String(); strings.Contains(log, "cannot listen") || !strings.Contains(log, "address=192.0.2.1") {
		t.Errorf("log:\n%s", log)
	}
}

func TestNobodyGetsInWithoutAToken(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	var paths []string
	for _, e := range webui.Endpoints() {
		if e.Scope != "" {
			paths = append(paths, e.Method+" "+strings.NewReplacer("{number}", "1", "{from}", "1", "{to}", "2", "{id}", "x").Replace(e.Path))
		}
	}
	for _, path := range paths {
		method, path, _ := strings.Cut(path, " ")
		for _, auth := range []string{"", "Bearer", "Bearer " + p.Token + "x", "Basic " + p.Token, p.Token} {
			header := http.Header{}
			if auth != "" {
				header.Set("Authorization", auth)
			}
			resp, body := b.raw(method, b.url("127.0.0.1")+path, "", header, "")
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s with %q: got %d %s", method, path, auth, resp.StatusCode, body)
			}
		}
	}
	if n := strings.Count(b.log.String(), "not let in"); n != 1 {
		t.Errorf("%d lines in the log for %d refusals", n, 5*len(paths))
	}
	for _, path := range []string{"/claim", "/api/v1/health"} {
		if resp, body := b.raw("GET", b.url("127.0.0.1")+path, "", nil, ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestTokenGivesWhatItsScopesSay(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	owner := remote.New(b.claimed())
	var made struct{ Secret, ID string }
	in := map[string]any{"name": "monitoring", "scopes": []access.Scope{access.Read}, "expires": time.Now().Add(time.Hour)}
	if err := owner.Call(t.Context(), "POST", "/v1/tokens", in, &made); err != nil {
		t.Fatal(err)
	}
	p := &remote.Profile{URL: b.url("127.0.0.1"), Fingerprint: b.control("GET").Fingerprint, Token: made.Secret}
	if _, err := remote.New(p).Status(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := remote.New(p).Apply(t.Context(), api.Change{})
	if err == nil || err.Error() != `the token "monitoring" is not for that: it lacks the scope apply` {
		t.Errorf("apply: got %v", err)
	}
	if e, ok := errors.AsType[*remote.Error](err); !ok || !strings.Contains(e.Hint, "--scopes apply ") {
		t.Errorf("apply: no hint comes with %v", err)
	}
	if err := remote.New(p).Call(t.Context(), "GET", "/v1/tokens", nil, nil); err == nil {
		t.Error("who may read lists the tokens")
	}
	var list []access.Token
	if err := owner.Call(t.Context(), "GET", "/v1/tokens", nil, &list); err != nil || len(list) != 2 {
		t.Fatalf("got %v, %v", list, err)
	}
	if err := owner.Call(t.Context(), "DELETE", "/v1/tokens/"+made.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	_, err = remote.New(p).Status(t.Context())
	e, ok := errors.AsType[*remote.Error](err)
	if !ok || !strings.Contains(e.Msg, "revoked") || !strings.Contains(e.Hint, "bulkhead claim 127.0.0.1") {
		t.Errorf("after it was revoked: got %v", err)
	}
}

func TestWhatCannotBeIsNoMatterOfRights(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	owner := http.Header{"Authorization": {"Bearer " + b.claimed().Token}}
	token := func(name, expires string) string {
		return fmt.Sprintf(`{"name":%q,"scopes":["read"],"expires":%q}`, name, expires)
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, tt := range []struct{ path, body, says string }{
		{"apply", `{"window":"soon"}`, `the window, which is the time to confirm a change, is such as 5m or 90s, not \"soon\"`},
		{"undo", `{"window":"5"}`, `is such as 5m or 90s, not \"5\"`},
		{"apply", `{"window":"2h"}`, "the window is too long"},
		{"undo", `{"window":"2h"}`, "the window is too long"},
		{"tokens", token("", soon), "it has no name"},
		{"tokens", token(strings.Repeat("x", 100), soon), "its name is longer than 64 bytes"},
		{"tokens", token("ci\n", soon), "cannot be printed"},
		{"tokens", token("ci", "tomorrow"), `\"tomorrow\" is no time: write it such as 2027-03-31T18:00:00Z`},
		{"tokens", token("ci", "2020-01-01T00:00:00Z"), "it has expired"},
		{"tokens", token("ci", "2099-01-01T00:00:00Z"), "it would live longer than a year"},
		{"tokens", `{"name":"ci","scopes":["read"]}`, "it would never expire"},
		{"claim", `{"proof":"","name":""}`, "it has no name"},
	} {
		resp, body := b.raw("POST", b.url("127.0.0.1")+"/api/v1/"+tt.path, "", owner, tt.body)
		if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: got %d %s, want %q", tt.path, tt.body, resp.StatusCode, body, tt.says)
		}
	}
	if len(b.changes) > 0 {
		t.Errorf("got %+v", b.changes)
	}
}

func TestAuthorIsWhoHoldsTheToken(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	lie := api.Terms{Origin: api.Origin{Identity: "somebody else", Connected: 1 << 62}}
	c := api.Change{File: api.File{Name: "home.yaml", Data: []byte("x")}, Author: "somebody else", Via: api.ViaConsole, Why: "because", Terms: lie}
	box := remote.New(b.claimed())
	p, err := box.Plan(t.Context(), api.Proposal{File: c.File, Origin: lie.Origin})
	if err != nil {
		t.Fatal(err)
	}
	if here := p.Path.Address; !here.IsLoopback() {
		t.Errorf("the plan was made for an author at %s", here)
	}
	before := api.Uptime()
	if _, err := box.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Undo(t.Context(), api.Undo{Author: "somebody else", Via: api.ViaCLI, Terms: lie}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Client.Confirm(t.Context(), api.Confirm{Origin: lie.Origin}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Cancel(t.Context(), api.Cancel{Author: "somebody else", Origin: lie.Origin}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Isolate(t.Context(), api.Isolate{Author: "somebody else", Via: api.ViaConsole, Origin: lie.Origin}); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Release(t.Context(), api.Release{Author: "somebody else", Via: api.ViaUI, Origin: lie.Origin}); err != nil {
		t.Fatal(err)
	}
	after := api.Uptime()
	for i := range b.changes {
		at := &b.changes[i].Origin.Connected
		if *at < before || *at > after {
			t.Errorf("call %d came over a connection of %s, not between %s and %s", i, *at, before, after)
		}
		before, *at = *at, 0
	}
	origin := api.Terms{Origin: api.Origin{Identity: "token:alex", Address: netip.MustParseAddr("127.0.0.1")}}
	c.Author, c.Via, c.Terms = "alex", api.ViaAPI, origin
	want := []api.Change{c, {Author: "alex", Via: api.ViaCLI, Why: "undo", Terms: origin}, {Why: "confirm", Terms: origin}, {Author: "alex", Why: "cancel", Terms: origin},
		{Author: "alex", Via: api.ViaAPI, Why: "isolate", Terms: origin}, {Author: "alex", Via: api.ViaUI, Why: "release", Terms: origin}}
	if diff := cmp.Diff(want, b.changes, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("changes differ (-want +got):\n%s", diff)
	}
	if _, err := box.SetSecret(t.Context(), "account", api.NewSecret{Value: "x", Author: "somebody else"}); err != nil || b.secretBy != "alex" {
		t.Errorf("a secret was set by %q, %v", b.secretBy, err)
	}
	if _, err := box.Isolate(t.Context(), api.Isolate{AcceptLockout: true}); err == nil {
		t.Error("somebody in the network may isolate who lets everybody in")
	}
	c.AcceptLockout = true // is for whoever sits at the box
	if _, err := box.Apply(t.Context(), c); err == nil || len(b.changes) != len(want) {
		t.Errorf("somebody in the network may lock everybody out: %v", err)
	}
	if _, err := box.Undo(t.Context(), api.Undo{Terms: c.Terms}); err == nil || len(b.changes) != len(want) {
		t.Errorf("somebody in the network may undo what lets everybody in: %v", err)
	}
}

func TestForeignSitesGetNothing(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	base := b.url("127.0.0.1")
	for _, host := range []string{"evil.example", "evil.example:443", "gw.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "home.arpa"} {
		if resp, _ := b.raw("GET", base+"/", host, nil, ""); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("host %s: got %d", host, resp.StatusCode)
		}
		if resp, _ := b.raw("GET", fmt.Sprintf("http://127.0.0.1:%d/", b.o.HTTP), host, nil, ""); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("host %s without TLS: got %d", host, resp.StatusCode)
		}
	}
	for _, host := range []string{"gw", "GW.home.arpa", "gw.home.arpa.", "gw:443", "127.0.0.1"} {
		if resp, _ := b.raw("GET", base+"/claim", host, nil, ""); resp.StatusCode != http.StatusOK {
			t.Errorf("host %s: got %d", host, resp.StatusCode)
		}
	}
	cross := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}
	if resp, _ := b.raw("POST", base+"/api/v1/claim", "", cross, "{}"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a post of another site: got %d", resp.StatusCode)
	}
	resp, page := b.raw("GET", base+"/claim", "", nil, "")
	for key, want := range map[string]string{
		"Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff",
		"Referrer-Policy":         "same-origin",
		"Cache-Control":           "no-store",
	} {
		if got := resp.Header.Get(key); got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	if strings.Contains(page, "<style") || strings.Contains(page, "style=") || !strings.Contains(page, "Nobody owns this box yet") {
		t.Errorf("page:\n%s", page)
	}
}

func TestPort80OnlySendsToTheOtherOne(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	resp, _ := b.raw("GET", fmt.Sprintf("http://127.0.0.1:%d/api/v1/status?a=b", b.o.HTTP), "gw.home.arpa", nil, "")
	want := fmt.Sprintf("https://gw.home.arpa:%d/api/v1/status?a=b", b.o.HTTPS)
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusTemporaryRedirect || got != want {
		t.Errorf("got %d to %s", resp.StatusCode, got)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	_, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

func TestOneClientCannotTakeAllConnections(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	open := 0
	for range 100 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if conn.Handshake() == nil {
			open++
		}
	}
	if open > 32 || open < 16 {
		t.Errorf("%d connections are open", open)
	}
	// Another address gets through.
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	conn, err := tls.DialWithDialer(from, "tcp", fmt.Sprintf("127.0.0.1:%d", b.o.HTTPS), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// updated starts a made-up updated.
func (b *box) updated(h http.Handler) { b.answerAt(b.o.Updated, h) }

// answerAt starts a made-up service.
func (b *box) answerAt(socket string, h http.Handler) {
	b.t.Helper()
	l, err := sock.Listen(socket, -1)
	if err != nil {
		b.t.Fatal(err)
	}
	serve(b.t, l, &http.Server{Handler: h})
}

func TestUploadsPassThroughAsTheyCome(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	p := b.claimed()
	c := remote.New(p)
	err := c.Upload(t.Context(), "/v1/update/root", strings.NewReader("x"), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "the update service does not answer") {
		t.Errorf("without updated: got %v", err)
	}

	const size = 64 << 20
	sum := sha256.New()
	var heads []http.Header
	b.updated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heads = append(heads, r.Header)
		if r.URL.Path != "/v1/update/root" || r.Method != "PUT" || r.ContentLength != size {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"error":"%s %s of %d bytes is not what was announced"}`, r.Method, r.URL.Path, r.ContentLength)
			return
		}
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, `{"n":%d,"err":%q}`, n, fmt.Sprint(err))
	}))
	var sent []int64
	want := sha256.New()
	if err := c.Upload(t.Context(), "/v1/update/root", io.TeeReader(&pattern{}, want), size, func(n int64) { sent = append(sent, n) }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Error("updated got something else")
	}
	if len(sent) < 10 || !slices.IsSorted(sent) || sent[len(sent)-1] != size {
		t.Errorf("progress %v", sent)
	}
	// What is refused is refused before it is sent.
	sent = nil
	err = c.Upload(t.Context(), "/v1/update/kernel", &pattern{}, size, func(n int64) { sent = append(sent, n) })
	if err == nil || err.Error() != fmt.Sprintf("PUT /v1/update/kernel of %d bytes is not what was announced", size) || len(sent) > 0 {
		t.Errorf("got %v after %v", err, sent)
	}
	for _, h := range heads {
		if h.Get("Authorization") != "Bearer "+p.Token || h.Get(api.ClientHeader) != "127.0.0.1" {
			t.Errorf("updated is told %v", h)
		}
	}
}

// pattern is an endless stream.
type pattern struct{ n byte }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n += 7
		b[i] = p.n
	}
	return len(b), nil
}

func TestGokrazyProtocolPassesOnlyWhereItIsWanted(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	var got []string
	b.updated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		got = append(got, r.Method+" "+r.URL.Path+" "+user)
	}))
	header := http.Header{}
	header.Set("Authorization", "Basic Z29rcmF6eTpwdw==") // gokrazy:pw
	try := func() (status []int) {
		for _, call := range []string{"GET /update/features", "POST /reboot", "PUT /update/%2e%2e/reset"} {
			method, path, _ := strings.Cut(call, " ")
			resp, _ := b.raw(method, b.url("127.0.0.1")+path, "", header, "")
			status = append(status, resp.StatusCode)
		}
		return status
	}
	if diff := cmp.Diff([]int{404, 404, 404}, try()); diff != "" {
		t.Errorf("where it is off (-want +got):\n%s", diff)
	}
	c := conf1
	c.Gokrazy = true
	b.configure(c)
	b.eventually("it is on", func() bool {
		resp, _ := b.raw("GET", b.url("127.0.0.1")+"/update/features", "", header, "")
		return resp.StatusCode == http.StatusOK
	})
	got = nil
	if diff := cmp.Diff([]int{200, 200, 400}, try()); diff != "" {
		t.Errorf("where it is on (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"GET /gokrazy/update/features gokrazy", "POST /gokrazy/reboot gokrazy"}, got); diff != "" {
		t.Errorf("updated was asked (-want +got):\n%s", diff)
	}
}

func TestSigningKeyComesWithTheClaim(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	key := bytes.Repeat([]byte{7}, ed25519.PublicKeySize)
	claim := func() (string, error) {
		code, err := access.ParseCode(b.control("POST").Code)
		if err != nil {
			t.Fatal(err)
		}
		c, err := remote.Look(t.Context(), b.url("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Redeem(t.Context(), code, "alex", key)
		if err != nil {
			return "", err
		}
		return p.KeyError, nil
	}
	keyError, err := claim()
	if err != nil || keyError == "" {
		t.Errorf("without updated: got %q, %v", keyError, err)
	}
	// As updated does, which takes one at its word only if it trusts none.
	var trusted updates.Keys
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(trusted) })
	mux.HandleFunc("POST /v1/keys", func(w http.ResponseWriter, r *http.Request) {
		in, err := strictjson.Decode[updates.AddKey](r.Body)
		if err != nil {
			t.Error(err)
		}
		if len(trusted.Keys) > 0 {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"error":"there is a key already"}`)
			return
		}
		trusted.Keys = append(trusted.Keys, updates.Key{Key: in.Key, Name: in.Name})
		fmt.Fprint(w, "{}")
	})
	b.updated(mux)
	for range 2 { // who claims again brings the same key
		if keyError, err := claim(); err != nil || keyError != "" {
			t.Errorf("got %q, %v", keyError, err)
		}
	}
	if diff := cmp.Diff([]updates.Key{{Key: key, Name: "alex"}}, trusted.Keys); diff != "" {
		t.Errorf("trusted are (-want +got):\n%s", diff)
	}
	key = bytes.Repeat([]byte{8}, ed25519.PublicKeySize)
	if keyError, err := claim(); err != nil || keyError != "there is a key already" {
		t.Errorf("another key: got %q, %v", keyError, err)
	}
}

func TestDamagedStateIsNoReasonToStayAway(t *testing.T) {
	b := newBox(t)
	if err := os.WriteFile(filepath.Join(b.o.State, "identity.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(conf1)
	log := b.log.String()
	if !strings.Contains(log, "the box's key is lost") {
		t.Errorf("log:\n%s", log)
	}
	b.claimed()
}
