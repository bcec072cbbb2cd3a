package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/strictjson"
)

// program returns the built program, which make test-root has built already.
func program(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("BULKHEAD_BIN"); bin != "" {
		return filepath.Join(bin, "bulkhead")
	}
	path := filepath.Join(t.TempDir(), "bulkhead")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// is reports whether JSON is a T to the letter.
func is[T any](data []byte) error {
	_, err := strictjson.Decode[T](bytes.NewReader(data))
	return err
}

// TestScriptsCanRelyOnExitCodesAndJSON runs the program as a job does: what it says with
// --json is one value of the type that is promised, whatever the outcome.
func TestScriptsCanRelyOnExitCodesAndJSON(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := filepath.Abs("../../configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	small, err := filepath.Abs("../../configs/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := write("broken.yaml", "zones: {}\n")
	failing := write("failing.yaml", firstFile+"tests:\n  - {from: gadgets, to: management, protocols: [ssh], expect: allow}\n")
	missing := filepath.Join(dir, "missing.yaml")
	nobody := filepath.Join(dir, "nobody.sock")
	bin, box, busy := program(t), serve(t, &backend{status: running}), serve(t, &backend{status: pending})

	for _, c := range []struct {
		args []string
		code int
		json func([]byte) error // nil: nothing is printed, since the usage is wrong
	}{
		{[]string{"check", good}, 0, is[checked]},
		{[]string{"check", broken}, 1, is[checked]},
		{[]string{"check", failing}, 1, is[checked]},
		{[]string{"check", missing}, 3, is[failure]},
		{[]string{"check", dir}, 3, is[failure]},
		{[]string{"check"}, 2, nil},
		{[]string{"check", "--fix", good}, 2, nil},
		{[]string{"test", good}, 0, is[[]tested]},
		{[]string{"test", failing}, 1, is[[]tested]},
		{[]string{"test", broken}, 1, is[failure]},
		{[]string{"test", missing}, 3, is[failure]},
		{[]string{"test"}, 2, nil},
		{[]string{"plan", "--from", small, good}, 0, is[api.Plan]},
		{[]string{"plan", "--from", good, good}, 0, is[api.Plan]},
		{[]string{"plan", "--from", good, broken}, 1, is[failure]},
		{[]string{"plan", "--from", good, failing}, 1, is[failure]},
		{[]string{"plan", "--from", missing, good}, 3, is[failure]},
		{[]string{"plan", "--from", "-", "-"}, 2, nil},
		{[]string{"plan", "--socket", box, good}, 0, is[api.Plan]},
		{[]string{"plan", "--socket", box, broken}, 1, is[failure]},
		{[]string{"plan", "--socket", nobody, good}, 3, is[failure]},
		{[]string{"plan", "--box", "nobody", good}, 3, is[failure]},
		{[]string{"plan"}, 2, nil},
		{[]string{"apply", "--socket", box, broken, "--author", "kim", "-m", "guests"}, 1, is[failure]},
		{[]string{"apply", "--socket", nobody, good}, 3, is[failure]},
		{[]string{"apply"}, 2, nil},
		// In this order: what is tried waits to be confirmed, here.
		{[]string{"confirm", "--socket", box}, 1, is[failure]},
		{[]string{"cancel", "--socket", box}, 1, is[failure]},
		{[]string{"apply", "--socket", box, good, "--author", "kim", "-m", "guests"}, 0, is[api.Trial]},
		{[]string{"confirm", "--socket", box, "another"}, 1, is[failure]},
		{[]string{"apply", "--socket", busy, good, "--author", "kim", "-m", "guests"}, 1, is[failure]}, // which does not make forget the one
		{[]string{"confirm", "--socket", box}, 0, is[api.Status]},
		{[]string{"confirm", "--socket", box}, 1, is[failure]},
		{[]string{"apply", "--socket", box, good, "--author", "kim", "-m", "guests"}, 0, is[api.Trial]},
		{[]string{"cancel", "--socket", box}, 0, is[api.Outcome]},
		{[]string{"apply", "--socket", box, "--yes", good, "--author", "kim", "-m", "guests"}, 0, is[api.Plan]},
		{[]string{"apply", "--socket", busy, good, "--author", "kim", "-m", "guests"}, 1, is[failure]},
		{[]string{"confirm", "--socket", nobody, "token"}, 3, is[failure]},
		{[]string{"cancel", "--socket", nobody}, 3, is[failure]},
		{[]string{"confirm", "one", "two"}, 2, nil},
		{[]string{"cancel", "it"}, 2, nil},
	} {
		name := strings.Join(c.args, " ")
		cmd := exec.Command(bin, append([]string{"--json"}, c.args...)...)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_RUNTIME_DIR="+dir, "BULKHEAD_TOKEN=", "BULKHEAD_TOKEN_FILE=")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run() // the code says it
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, c.code, &out, &errs)
			continue
		}
		switch {
		case c.json == nil && out.Len() > 0:
			t.Errorf("%s: printed %s", name, &out)
		case c.json == nil:
		case c.json(out.Bytes()) != nil:
			t.Errorf("%s: %v\n%s", name, c.json(out.Bytes()), &out)
		case bytes.Contains(out.Bytes(), []byte("null")):
			t.Errorf("%s: a list is null:\n%s", name, &out)
		}
		if c.code > 1 && errs.Len() == 0 {
			t.Errorf("%s: nothing is said about what is wrong", name)
		}
	}
}
