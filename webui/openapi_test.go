//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bulkhead/services/auth/access"
	"bulkhead/webui"
	"bulkhead/webui/openapitest"
	"bulkhead/webui/remote"
)

var update = flag.Bool("update", false, "rewrite openapi.json and the golden files")

// description is for those who read the document.
const description = `What a Bulkhead gateway can be asked over HTTPS, by whoever is in an admin zone and has a token
(Authorization: Bearer TOKEN) with the scope that is named under "security". The scope "any" is any token's; each scope
stands for itself, and "admin" is all of them. The box has a certificate of its own: compare its public key's SHA-256.

Newer boxes may answer with fields that are not here. Requests with fields that are not here are refused. gokrazy's
update protocol, below /update, is not part of this.`

var meanings = map[int]string{
	400: "The request makes no sense",
	401: "There is no token, or it is unknown to this box, or has expired",
	403: "The token is not for that, or what was to be proved is not",
	404: "There is nothing of that name",
	409: "The box cannot do that as it is",
	413: "It is too large",
	421: "The box does not go by the name in the address",
	422: "What was sent was understood, and is refused",
	425: "It is too early for that: try again in a moment",
	429: "There were too many wrong attempts, or too many do that at once: wait",
	500: "Something on the box went wrong",
	503: "The part of the box that knows does not answer: try again",
	507: "There is no space on the box",
}

func sources(t *testing.T) *openapitest.Sources {
	t.Helper()
	s, err := openapitest.ReadSources("..", "bulkhead")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOpenAPIIsWhatIsServed holds openapi.json to the endpoints, their types and the
// comments on them.
func TestOpenAPIIsWhatIsServed(t *testing.T) {
	want, err := openapitest.API{
		Title: "Bulkhead", Version: "1", Description: description, Failure: webui.Failure, Meanings: meanings, Operations: webui.Endpoints(),
	}.Document(sources(t))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(webui.OpenAPI)); diff != "" {
		t.Errorf("openapi.json is old, write it anew with go test ./webui -run OpenAPI -update (-want +got):\n%s", diff)
	}
}

// TestOpenAPIHasAllThereIs looks for doors that are in the sources and not in the
// document.
func TestOpenAPIHasAllThereIs(t *testing.T) {
	documented := map[string]bool{}
	for _, e := range webui.Endpoints() {
		documented[e.Method+" "+strings.TrimPrefix(e.Path, "/api")] = true
	}
	// What is answered on the box only, and why.
	local := map[string]string{
		"GET /v1/mode":              "it is on the page that everybody sees",
		"POST /v1/gokrazy-password": "it is update/gokrazy-password from elsewhere",
		"POST /v1/keys/reset":       "for who stands before the box",
		"GET /v1/events/live":       "for services on the box",
		"POST /v1/boot-other":       "for who stands before the box",
		"POST /v1/reset":            "for who stands before the box",
	}
	found := map[string]bool{}
	for _, dir := range []string{"../netcfg/api", "../services/update", "../services/flow/lookout", "../services/flow", "../services/export"} {
		for _, r := range patterns(t, dir) {
			found[r] = true
			if !documented[r] && local[r] == "" && !strings.Contains(r, "/gokrazy/") {
				t.Errorf("%s answers %s: put it into endpoints, or say here why nobody may ask it over HTTPS", dir, r)
			}
		}
	}
	for r := range documented {
		if ours := strings.Contains(r, "/token") || strings.Contains(r, "/health") || strings.Contains(r, "/claim") || strings.Contains(r, "/openapi") || strings.Contains(r, "/certificates"); !ours && !found[r] {
			t.Errorf("nobody answers %s", r)
		}
	}
	for _, r := range patterns(t, ".") {
		if strings.Contains(r, "/api/") {
			t.Errorf("%s is served without being an endpoint", r)
		}
	}
}

// patterns returns the patterns of a package's routes, which are literals that look so.
func patterns(t *testing.T, dir string) []string {
	t.Helper()
	pattern := regexp.MustCompile(`^(GET|PUT|POST|PATCH|DELETE) /`)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || files == nil {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	var list []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && pattern.MatchString(s) {
					list = append(list, s)
				}
			}
			return true
		})
	}
	return list
}

// standIn answers for netcfgd and updated what the test says.
type standIn struct {
	mu     sync.Mutex
	status int
	media  string
	body   []byte
}

func (s *standIn) say(t testing.TB, status int, body any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.media = status, data, "application/json"
}

// sayLine is say for one of an answer's lines.
func (s *standIn) sayLine(t testing.TB, v any) {
	t.Helper()
	s.say(t, 200, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.media = append(s.body, '\n'), "application/x-ndjson"
}

// sayFile is say for an answer that is a file.
func (s *standIn) sayFile(media string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.media = 200, []byte{0, 1, 0xff}, media
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // as one who reads does, or who sends is cut off
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", s.media)
	w.WriteHeader(s.status)
	_, _ = w.Write(s.body)
}

// asked is a box whose netcfgd and updated are stand-ins, and how to ask it.
type asked struct {
	*box
	sources *openapitest.Sources
	upward  standIn
	owner   string         // a token that may do everything
	remote  *remote.Client // of its owner: one, as a box takes few connections from a place
	lacking map[access.Scope]string
}

func newAsked(t *testing.T) *asked {
	t.Helper()
	a := &asked{box: newEmptyBox(t), sources: sources(t), lacking: map[access.Scope]string{}}
	a.box.netcfgd(&http.Server{Handler: &a.upward})
	a.box.updated(&a.upward)
	a.box.answerAt(a.box.o.Flowd, &a.upward)
	a.box.answerAt(a.box.o.Exportd, &a.upward)
	a.start(conf1)
	a.owner = a.claimed().Token
	a.remote = remote.New(&remote.Profile{URL: a.url("127.0.0.1"), Fingerprint: a.control("GET").Fingerprint, Token: a.owner})
	return a
}

// token makes a token with the scopes.
func (a *asked) token(held ...access.Scope) access.TokenAnswer {
	a.t.Helper()
	in := access.TokenRequest{Name: fmt.Sprint(held, time.Now().UnixNano()), Scopes: held, Expires: time.Now().Add(time.Hour)}
	var made access.TokenAnswer
	if err := a.remote.Call(a.t.Context(), "POST", "/v1/tokens", in, &made); err != nil {
		a.t.Fatal(err)
	}
	return made
}

// without returns the secret of a token that may do all but what a scope is for. There is
// one for each scope: a box has room for 64 tokens.
func (a *asked) without(scope access.Scope) string {
	a.t.Helper()
	if a.lacking[scope] == "" {
		others := slices.DeleteFunc(access.Scopes(), func(s access.Scope) bool { return s == scope || s == access.Admin })
		a.lacking[scope] = a.token(others...).Secret
	}
	return a.lacking[scope]
}

// request is one that goes well, until a test breaks it.
type request struct{ path, host, token, body string }

func (a *asked) request(op openapitest.Operation) request {
	r := request{path: strings.NewReplacer("{number}", "1", "{from}", "1", "{to}", "2", "{id}", "x", "{name}", "x").Replace(op.Path), token: a.owner}
	var query []string
	for _, q := range op.Query {
		query = append(query, strings.TrimSuffix(q, "=")+"=x")
	}
	if query != nil {
		r.path += "?" + strings.Join(query, "&")
	}
	if op.In != nil {
		in := plain(a.t, a.sources.Sample(op.In)).(map[string]any)
		delete(in, "acceptLockout") // which only root on the box itself may say
		body, err := json.Marshal(in)
		if err != nil {
			a.t.Fatal(err)
		}
		r.body = string(body)
	}
	return r
}

func (a *asked) ask(method string, r request) (int, http.Header, string) {
	a.t.Helper()
	header := http.Header{}
	if r.token != "" {
		header.Set("Authorization", "Bearer "+r.token)
	}
	resp, body := a.raw(method, a.url("127.0.0.1")+r.path, r.host, header, r.body)
	return resp.StatusCode, resp.Header, body
}

// TestOpenAPIHoldsForEveryAnswer has every documented status of every endpoint occur,
// and each answer be what the document says, to the letter.
func TestOpenAPIHoldsForEveryAnswer(t *testing.T) {
	doc := newDocument(t)
	a := newAsked(t)
	// What is asked of a box whose other parts are gone, and of one on which nobody knows
	// who may come in.
	var last, gone []func()
	for _, op := range webui.Endpoints() {
		for _, status := range append([]int{200}, op.Refuses...) {
			occur := func() (int, http.Header, string) { return a.occur(op, status) }
			if status == 503 && own(op) {
				r := a.request(op)
				occur = func() (int, http.Header, string) { return a.ask(op.Method, r) }
			}
			check := func() {
				got, header, body := occur()
				if got != status {
					t.Errorf("%s %s: got %d, want %d: %s", op.Method, op.Path, got, status, body)
					return
				}
				want := "application/json"
				if status == 200 {
					want = op.Type()
				}
				if c := header.Get("Content-Type"); c != want {
					t.Errorf("%s %s: %d has the type %s", op.Method, op.Path, status, c)
				}
				if err := doc.check(op, status, body); err != nil {
					t.Errorf("%s %s: %d is not as documented: %v\n%s", op.Method, op.Path, status, err, body)
				}
			}
			switch {
			case status == 503 && own(op):
				gone = append(gone, check)
			case status == 503:
				last = append(last, check)
			default:
				check()
			}
		}
	}
	for _, socket := range []string{a.o.Netcfgd, a.o.Updated, a.o.Flowd, a.o.Exportd} {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
	}
	for _, check := range last {
		check()
	}
	a.stopAccess()
	for _, check := range gone {
		check()
	}
}

// occur brings a status about.
func (a *asked) occur(op openapitest.Operation, status int) (int, http.Header, string) {
	a.t.Helper()
	r := a.request(op)
	switch {
	case status == 401:
		r.token = "bulkhead_nonsense"
	case status == 421:
		r.host = "evil.example"
	case status == 403 && op.Scope == "any":
		a.asksForCertificates()
		defer a.asksForNone()
	case status == 403 && op.Scope != "":
		r.token = a.without(access.Scope(op.Scope))
	case own(op):
		return a.occurHere(op, status, r)
	case status == 200 && op.File != "":
		a.upward.sayFile(op.File)
	case status == 200:
		want := a.sources.Sample(op.Out)
		a.upward.say(a.t, 200, want)
		if op.Lines {
			a.upward.sayLine(a.t, want)
		}
		got, header, body := a.ask(op.Method, r)
		if diff := cmp.Diff(plain(a.t, want), decoded(a.t, body)); got == 200 && diff != "" {
			a.t.Errorf("%s %s is answered with another type than documented (-want +got):\n%s", op.Method, op.Path, diff)
		}
		return got, header, body
	case status == 400 && op.In != nil:
		r.body = "nonsense"
		a.upward.say(a.t, 400, map[string]string{"error": "as updated says it"})
	case status == 413 && op.In != nil:
		r.body = `{"a":"` + strings.Repeat("a", 24<<20) + `"}`
		a.upward.say(a.t, 413, map[string]string{"error": "as updated says it"})
	case status == 409:
		a.upward.say(a.t, 409, map[string]any{"error": "another is", "pending": plain(a.t, a.sources.Sample(webui.Failure)).(map[string]any)["pending"]})
		got, header, body := a.ask(op.Method, r)
		if !strings.Contains(body, `"pending":{`) {
			a.t.Errorf("%s %s: 409 does not say what is in the way: %s", op.Method, op.Path, body)
		}
		return got, header, body
	case status == 422:
		a.upward.say(a.t, 422, a.sources.Sample(webui.Failure))
	default:
		a.upward.say(a.t, status, map[string]string{"error": "something"})
	}
	return a.ask(op.Method, r)
}

// own reports whether webui itself answers.
func own(op openapitest.Operation) bool {
	return slices.ContainsFunc([]string{"health", "claim", "openapi.json", "tokens", "certificates"}, func(s string) bool { return strings.HasPrefix(op.Path, "/api/v1/"+s) })
}

// occurHere is occur for what webui itself answers.
func (a *asked) occurHere(op openapitest.Operation, status int, r request) (int, http.Header, string) {
	a.t.Helper()
	body := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			a.t.Fatal(err)
		}
		r.body = string(data)
	}
	token := access.TokenRequest{Name: "ci", Scopes: []access.Scope{access.Read}, Expires: time.Now().Add(time.Hour)}
	switch fmt.Sprint(op.Method, " ", strings.TrimPrefix(op.Path, "/api/v1/"), " ", status) {
	case "POST certificates 200":
		body(map[string]any{"label": "laptop", "request": certRequest(a.t)})
	case "POST claim 200":
		a.upward.say(a.t, 500, map[string]string{"error": "no room for another key"})
		return a.redeem(a.control("POST").Code)
	case "POST claim 403":
	case "POST claim 422":
		body(access.ClaimRequest{Proof: []byte{1}, Name: " "})
	case "POST claim 429":
		a.control("POST") // a new code, which ends all waiting
		for range 5 {
			a.ask(op.Method, r)
		}
	case "POST tokens 200":
		body(token)
	case "POST tokens 409":
		token.Name = a.token(access.Read).Name
		body(token)
	case "POST tokens 422":
		token.Expires = time.Time{}
		body(token)
	case "DELETE tokens/{id} 200":
		r.path = strings.Replace(r.path, "/x", "/"+a.token(access.Read).ID, 1)
	default:
		switch status {
		case 400:
			r.body = "nonsense"
		case 413:
			r.body = `{"a":"` + strings.Repeat("a", 8<<20) + `"}`
		}
	}
	return a.ask(op.Method, r)
}

// redeem claims the box and returns the answer as it is.
func (a *asked) redeem(text string) (int, http.Header, string) {
	a.t.Helper()
	code, err := access.ParseCode(text)
	if err != nil {
		a.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(a.url("127.0.0.1"), "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(access.ExporterLabel, nil, access.ExporterSize)
	if err != nil {
		a.t.Fatal(err)
	}
	body, err := json.Marshal(access.ClaimRequest{Proof: code.Proof(access.Client, exporter), Name: "kim", Key: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		a.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}}
	resp, err := client.Post(a.url("127.0.0.1")+"/api/v1/claim", "application/json", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

func plain(t testing.TB, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, string(data))
}

func decoded(t testing.TB, body string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// document is openapi.json as it judges answers.
type document struct {
	t        *testing.T
	compiler *jsonschema.Compiler
}

func newDocument(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("openapi.json") // what is served, or has just been updated
	if err != nil {
		t.Fatal(err)
	}
	strict, err := openapitest.Strict(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(strict))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	if err := c.AddResource("openapi.json", v); err != nil {
		t.Fatal(err)
	}
	return &document{t, c}
}

// check reports how an answer is not as documented.
func (d *document) check(op openapitest.Operation, status int, body string) error {
	if status == 200 && op.File != "" {
		return nil // of which nothing is said
	}
	if status == 200 {
		return d.validate(place(op)+"/responses/200", op.Type(), body)
	}
	return d.validate("/components/responses/Failure", "application/json", body)
}

// place is where an operation stands in the document.
func place(op openapitest.Operation) string {
	return "/paths/" + strings.NewReplacer("/", "~1", "{", "%7B", "}", "%7D").Replace(op.Path) + "/" + strings.ToLower(op.Method)
}

// validate holds a body against the schema of the content of a media type at a place.
func (d *document) validate(at, media, body string) error {
	schema, err := d.compiler.Compile("openapi.json#" + at + "/content/" + strings.Replace(media, "/", "~1", 1) + "/schema")
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// TestOpenAPIDescribesBodies holds the schemas of bodies to the types that are read.
func TestOpenAPIDescribesBodies(t *testing.T) {
	doc, s := newDocument(t), sources(t)
	for _, op := range webui.Endpoints() {
		if op.In == nil {
			continue
		}
		body, err := json.Marshal(s.Sample(op.In))
		if err != nil {
			t.Fatal(err)
		}
		if err := doc.validate(place(op)+"/requestBody", "application/json", string(body)); err != nil {
			t.Errorf("%s %s: %v", op.Method, op.Path, err)
		}
	}
}

// TestScopesOpenWhatTheyShould measures which token gets in where, and compares with
// testdata/scopes.txt, which is there to be read.
func TestScopesOpenWhatTheyShould(t *testing.T) {
	const golden = "testdata/scopes.txt"
	a := newAsked(t)
	a.upward.say(t, 404, map[string]string{"error": "got in"})
	tokens := map[string]string{"none": ""}
	columns := []string{"none"}
	for _, s := range access.Scopes() {
		tokens[string(s)] = a.token(s).Secret
		columns = append(columns, string(s))
	}
	var text strings.Builder
	text.WriteString("Which token opens what: 401 and 403 are closed doors, + is an open one.\n\n")
	fmt.Fprintf(&text, "%-38s", "")
	for _, c := range columns {
		fmt.Fprintf(&text, " %-6s", c)
	}
	for _, op := range webui.Endpoints() {
		fmt.Fprintf(&text, "\n%-38s", op.Method+" "+op.Path)
		for _, c := range columns {
			r := a.request(op)
			r.token = tokens[c]
			if own(op) && r.body != "" {
				r.body = "nonsense" // what gets in is refused then, but not at the door
			}
			status, _, _ := a.ask(op.Method, r)
			mark := "+"
			if status == 401 || status == 403 {
				mark = strconv.Itoa(status)
			}
			fmt.Fprintf(&text, " %-6s", mark)
		}
	}
	got := regexp.MustCompile(` +\n`).ReplaceAllString(text.String()+"\n", "\n")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("doors differ (-want +got):\n%s", diff)
	}
}
