//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/access"
	"bulkhead/webui/openapitest"
	"bulkhead/webui/remote"
)

// runner is a machine in the admin zone from which the box was never claimed.
type runner struct {
	*newBox
	repo string   // holds home.yaml and job.sh
	env  []string // of the job
}

// newRunner returns a box that has its first configuration, and a runner beside it.
func newRunner(t *testing.T) *runner {
	b := unpack(t)
	b.start("dhcpd") // which has a history to ask for
	state := b.waiting()
	if out, code := b.cli("claim", "192.168.77.1", "--code", state.Code, "--yes", filepath.Join(b.dir, "home.yaml")); code != 0 {
		t.Fatalf("claim: exit %d\n%s", code, out)
	}
	r := &runner{newBox: b, repo: filepath.Join(b.dir, "repo")}
	if err := os.Mkdir(r.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../docs/ci/job.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.repo, "job.sh"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	r.env = []string{
		"PATH=" + b.bin + ":" + os.Getenv("PATH"), "HOME=" + r.repo, "NO_COLOR=1", "BULKHEAD_WHY=merge of a branch",
		"BULKHEAD_BOX=https://192.168.10.1", "BULKHEAD_FINGERPRINT=" + state.Fingerprint.String(),
	}
	return r
}

// push puts a file into the repository.
func (r *runner) push(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.repo, name), []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// job runs a step as a job that has the token.
func (r *runner) job(step, token string, env ...string) (out, errs string, code int) {
	r.t.Helper()
	cmd := exec.Command("./job.sh", step)
	cmd.Dir = r.repo
	cmd.Env = append(append(r.env, "BULKHEAD_TOKEN="+token), env...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	nstest.Run(r.t, r.desk, func() { _ = cmd.Run() }) // the code says it
	if token != "" && strings.Contains(o.String()+e.String(), token) && access.IsToken(token) {
		r.t.Errorf("%s: a token is in the log of the job", step)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// token makes a token as the owner does.
func (r *runner) token(name, scopes string) string {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(r.bin, "bulkhead"), "token", "create", name, "--scopes", scopes, "--expires", "90d")
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(r.dir, "desk"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	var out []byte
	var err error
	nstest.Run(r.t, r.desk, func() { out, err = cmd.Output() })
	if err != nil || strings.Count(string(out), "\n") != 1 || !access.IsToken(strings.TrimSpace(string(out))) {
		r.t.Fatalf("token create: %v\n%s%s", err, out, &errs)
	}
	if !strings.Contains(errs.String(), "BULKHEAD_FINGERPRINT=") || strings.Contains(errs.String(), "bulkhead_") {
		r.t.Errorf("token create says:\n%s", &errs)
	}
	return strings.TrimSpace(string(out))
}

// rules are what a pull request adds to the first file.
const rules = `
allow:
  - name: gadgets
    from: management
    to: gadgets
    protocols: [https]
    why: the gadgets have pages
`

func TestFilesAreTheTruthForAJob(t *testing.T) {
	t.Parallel() // most of it is waiting
	r := newRunner(t)
	planner, applier := r.token("ci-plan", "read,plan"), r.token("ci-apply", "read,plan,apply")
	inForce := func() string {
		t.Helper()
		out, code := r.cli("--box", "gw", "show", "rules")
		if code != 0 {
			t.Fatalf("show: exit %d\n%s", code, out)
		}
		return out
	}
	type outcome struct {
		step, token string
		env         []string
		code        int
		out, errs   string // what is said, among other things
		rule        bool   // whether the rule is in force afterwards
	}
	try := func(name string, c outcome) {
		t.Helper()
		out, errs, code := r.job(c.step, c.token, c.env...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: exit %d, want %d, saying %q and %q\n%s%s", name, code, c.code, c.out, c.errs, out, errs)
		}
		if got := strings.Contains(inForce(), "the gadgets have pages"); got != c.rule {
			t.Errorf("%s: the rule is in force: %t", name, got)
		}
	}

	r.push("home.yaml", firstFile+"allow: [7]\n")
	try("a push with a mistake", outcome{step: "check", code: 1, out: "home.yaml:"})
	try("its plan", outcome{step: "plan", token: planner, code: 1, out: "**The gateway refuses this file.**"})
	r.push("home.yaml", firstFile+rules+"\ntests:\n  - {from: gadgets, to: management, protocols: [ssh], expect: allow}\n")
	try("a push of which a test fails", outcome{step: "check", code: 1, out: "expected allow"})
	try("a merge of it", outcome{step: "apply", token: applier, code: 1, errs: "expected allow"})

	r.push("home.yaml", firstFile+rules)
	try("a push", outcome{step: "check", out: "1 rule"})
	try("a plan", outcome{step: "plan", token: planner, out: "    Connections:\n      + management → gadgets: tcp/443 becomes possible"})
	try("a merge with the token of a pull request", outcome{step: "apply", token: planner, code: 3, errs: `the token "ci-plan" is not for that: it lacks the scope apply`})
	try("no token", outcome{step: "plan", code: 3, out: "set BULKHEAD_TOKEN and BULKHEAD_FINGERPRINT"})
	try("half a token", outcome{step: "plan", token: "nonsense", code: 2, out: "holds no token"})
	try("no fingerprint", outcome{step: "apply", token: applier, env: []string{"BULKHEAD_FINGERPRINT="}, code: 2, errs: "by which key to know https://192.168.10.1"})
	try("another box", outcome{step: "apply", token: applier, env: []string{"BULKHEAD_FINGERPRINT=" + access.Fingerprint{}.String()}, code: 3, errs: "is not the box that is meant"})
	try("nobody there", outcome{step: "apply", token: applier, env: []string{"BULKHEAD_BOX=https://192.168.10.99"}, code: 3, errs: "does not answer"})
	r.push("smoke", "#!/bin/sh\nexit 1\n")
	try("a merge after which the network is broken", outcome{step: "apply", token: applier, env: []string{"SMOKE=./smoke"}, code: 1, errs: "the network is as it was before"})
	r.push("smoke", "#!/bin/sh\nbulkhead --box $BULKHEAD_BOX why management gadgets https\n")
	try("a merge", outcome{step: "apply", token: applier, env: []string{"SMOKE=./smoke"}, rule: true})
	if out, code := r.cli("--box", "gw", "history"); code != 0 || !strings.Contains(out, "ci-apply") || !strings.Contains(out, "merge of a branch") {
		t.Errorf("history: exit %d\n%s", code, out)
	}

	if out, code := r.cli("token", "revoke", "ci-apply"); code != 0 {
		t.Errorf("revoke: exit %d\n%s", code, out)
	}
	try("a token that was revoked", outcome{step: "plan", token: applier, code: 3, out: "have a new token made", rule: true})
	if out, code := r.cli("token", "list"); code != 0 || !strings.Contains(out, "ci-plan") || strings.Contains(out, "ci-apply") {
		t.Errorf("token list: exit %d\n%s", code, out)
	}
	r.checkAnswers(planner)
}

// varies are the parts of a path in the document that are to be filled in.
var varies = regexp.MustCompile(`\{\w+\}`)

// checkAnswers holds what the real programs answer to the document that the box serves.
func (r *runner) checkAnswers(token string) {
	t := r.t
	fingerprint, err := access.ParseFingerprint(strings.TrimPrefix(r.env[len(r.env)-1], "BULKHEAD_FINGERPRINT="))
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		nstest.Run(t, r.desk, func() { conn, err = new(net.Dialer).DialContext(ctx, network, address) })
		return conn, err
	}
	box := remote.NewVia(&remote.Profile{URL: "https://192.168.10.1", Fingerprint: fingerprint, Token: token}, dial)
	ask := func(path string) (body json.RawMessage) {
		t.Helper()
		if err := box.Call(t.Context(), "GET", path, nil, &body); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return body
	}
	strict, err := openapitest.Strict(ask("/v1/openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(strict))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for path, item := range doc.(map[string]any)["paths"].(map[string]any) {
		get, ok := item.(map[string]any)["get"].(map[string]any)
		if !ok || !strings.Contains(mustJSON(t, get["security"]), `"read"`) {
			continue
		}
		if _, ok := get["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any)["application/json"]; !ok {
			continue // a stream, which has no end
		}
		if strings.HasSuffix(path, "/checks") {
			continue // updated does not run here
		}
		query := ""
		switch {
		case strings.HasSuffix(path, "/why"):
			query = "?from=management&to=gadgets&protocol=any"
		case strings.HasSuffix(path, "/contacts"):
			query = "?of=192.168.10.99"
		}
		value := "1"
		if strings.Contains(path, "/matrix/") {
			value = "management"
		}
		body := ask(strings.TrimPrefix(varies.ReplaceAllString(path, value), "/api") + query)
		at := strings.NewReplacer("/", "~1", "{", "%7B", "}", "%7D").Replace(path)
		schema, err := c.Compile("openapi.json#/paths/" + at + "/get/responses/200/content/application~1json/schema")
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("GET %s is not as documented: %v\n%s", path, err, body)
		}
		asked++
	}
	if asked < 8 {
		t.Errorf("only %d endpoints were found to ask", asked)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
