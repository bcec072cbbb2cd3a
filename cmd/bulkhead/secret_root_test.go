//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

// plants are the values that are looked for. The last is never in use.
var plants = []string{"tls://9.9.9.9#hunter2-first.dns.example", "tls://9.9.9.10#hunter2-second.dns.example", "hunter2-spare"}

// typed runs bulkhead at the desk as cli does, with an input.
func (b *newBox) typed(input string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.bin, "bulkhead"), args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(b.dir, "desk"), "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(input)
	var out []byte
	var err error
	nstest.Run(b.t, b.desk, func() { out, err = cmd.CombinedOutput() })
	if err != nil {
		b.t.Fatalf("bulkhead %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// ask asks the box for everything that can be asked for over HTTPS by its owner.
func (b *newBox) ask() (answers []byte) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "desk/bulkhead/boxes/gw.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	var p remote.Profile
	if err := json.Unmarshal(data, &p); err != nil {
		b.t.Fatal(err)
	}
	c := remote.NewVia(&p, func(_ context.Context, network, address string) (conn net.Conn, err error) {
		nstest.Run(b.t, b.desk, func() { conn, err = net.DialTimeout(network, address, 5*time.Second) })
		return conn, err
	})
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := c.Call(b.t.Context(), "GET", "/v1/openapi.json", nil, &doc); err != nil {
		b.t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		if methods["get"] == nil {
			continue
		}
		path = strings.NewReplacer("{number}", "2", "{from}", "1", "{to}", "2").Replace(strings.TrimPrefix(path, "/api"))
		if strings.HasSuffix(path, "/why") {
			path += "?from=box&to=gadgets&protocol=dns"
		}
		var answer json.RawMessage
		if err := c.Call(b.t.Context(), "GET", path, nil, &answer); err != nil {
			answer = json.RawMessage(err.Error()) // updated does not run here
		}
		answers = append(append(answers, answer...), '\n')
	}
	return answers
}

// TestPlantedSecretsLeakNowhere runs a box of the real programs, gives it secrets, and
// looks for them in all that it says and writes. One file holds one: what dnsd is told.
func TestPlantedSecretsLeakNowhere(t *testing.T) {
	t.Parallel() // most of it is waiting
	b := unpack(t)
	b.start("dnsd")
	var state access.State
	b.until("the box waits for its owner", func() bool {
		var err error
		state, err = b.console("GET")
		return err == nil && b.dial(b.desk, "192.168.77.1:443") == nil
	})
	file := filepath.Join(b.dir, "home.yaml")
	if out, code := b.cli("claim", "192.168.77.1", "--code", state.Code, "--yes", file); code != 0 {
		t.Fatalf("the claim: exit %d\n%s", code, out)
	}
	named := filepath.Join(b.dir, "named.yaml")
	if err := os.WriteFile(named, []byte(firstFile+"resolvers: [{secret: account}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	out, code := b.cli("--box", "gw", "apply", named)
	if said = append(said, out); code != 1 || !strings.Contains(out, "bulkhead secret set account") {
		t.Errorf("a secret that is not set: exit %d\n%s", code, out)
	}
	said = append(said,
		b.typed(plants[0]+"\n", "--box", "gw", "secret", "set", "account"),
		b.typed(plants[2]+"\n", "--box", "gw", "secret", "set", "spare"),
		b.typed("", "--box", "gw", "apply", "--yes", named),
		b.typed(plants[1]+"\n", "--box", "gw", "secret", "rotate", "account"))
	told := filepath.Join(b.dir, "run/dnsd/config.json")
	b.until("dnsd is told the new value", func() bool {
		data, err := os.ReadFile(told)
		return err == nil && bytes.Contains(data, []byte("hunter2-second"))
	})
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, saved := filepath.Join(b.dir, "stranger.txt"), filepath.Join(b.dir, "desk/gw.age")
	if err := os.WriteFile(key, []byte("AGE-SECRET-KEY-"+plants[2]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"secret", "recipients", "add", owner.Recipient().String(), "alex"}, {"backup", saved}, {"restore", saved, "--identity", key, "--yes"},
		{"backup", "--recipient", plants[2], filepath.Join(b.dir, "desk/none.age")},
		{"show"}, {"show", "rules"}, {"show", "drift"}, {"history"}, {"history", "show", "2"}, {"history", "diff", "1", "2"},
		{"history", "export", filepath.Join(b.dir, "export")}, {"plan", file}, {"secret", "list"}, {"secret", "list", "--json"}, {"secret", "remove", "account"},
		{"undo"}, {"support", filepath.Join(b.dir, "desk/support.zip")},
	} {
		out, _ := b.cli(append([]string{"--box", "gw"}, args...)...)
		said = append(said, out)
	}
	// In there everything is compressed.
	exported, err := exec.Command("git", "--git-dir", filepath.Join(b.dir, "export"), "log", "-p").CombinedOutput()
	if err != nil || !bytes.Contains(exported, []byte("secret: account")) {
		t.Errorf("the export does not even name the secret: %v\n%s", err, exported)
	}
	b.hidden("the export", exported)
	bundle := unzip(t, filepath.Join(b.dir, "desk/support.zip"))
	if !bytes.Contains(bundle, []byte(`"account"`)) {
		t.Errorf("the support bundle does not even name the secret:\n%s", bundle)
	}
	b.hidden("the support bundle", bundle)
	answers := b.ask()
	if !bytes.Contains(answers, []byte(`"account"`)) {
		t.Errorf("the answers do not even name the secret:\n%s", answers)
	}
	b.hidden("what was said", []byte(strings.Join(said, "\n")))
	b.hidden("an answer", answers)
	b.hidden("the log", []byte(b.log.String()))
	if _, err := os.Stat(saved); err != nil {
		t.Errorf("there is no backup to look into: %v", err)
	}
	for _, dir := range []string{"run", "state", "export", "desk"} {
		err := filepath.WalkDir(filepath.Join(b.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || path == told {
				return err
			}
			data, err := os.ReadFile(path)
			b.hidden(path, data)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// hidden reports planted values in data, as they are or in another notation.
func (b *newBox) hidden(where string, data []byte) {
	b.t.Helper()
	for _, p := range plants {
		_, p, _ = strings.Cut(p, "hunter2-")
		p = "hunter2-" + strings.TrimSuffix(p, ".dns.example")
		for _, form := range []string{p, hex.EncodeToString([]byte(p)), base64.StdEncoding.EncodeToString([]byte(p)[:6])} {
			if bytes.Contains(data, []byte(form)) {
				b.t.Errorf("%s holds %s", where, form)
			}
		}
	}
}

// unzip returns all that is in a zip file.
func unzip(t *testing.T, path string) (all []byte) {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		all = append(append(all, f.Name...), data...)
	}
	return all
}
