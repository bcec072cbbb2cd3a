package conf_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// now is the time of all tests, noon of a day in UTC.
var now = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// section returns a file of an archive, made if it is missing.
func section(ar *txtar.Archive, name string) *txtar.File {
	for i := range ar.Files {
		if ar.Files[i].Name == name {
			return &ar.Files[i]
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: name})
	return &ar.Files[len(ar.Files)-1]
}

func badCases(t *testing.T) []string {
	files, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(files) < 45 {
		t.Fatalf("found %d golden files of bad input, want at least 45 (%v)", len(files), err)
	}
	return files
}

// TestBad parses each testdata/bad/*.txtar: its comment says what the case is about,
// config.yaml is the input, problems what must be said about it, in full. A third
// part, schema, says whether an editor with the JSON Schema would see a mistake.
func TestBad(t *testing.T) {
	schema := compileSchema(t)
	for _, file := range badCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Comment) == 0 {
				t.Error("the case does not say what it is about")
			}
			data := section(ar, "config.yaml").Data
			cfg, list := conf.Parse("config.yaml", data, now)
			if (cfg == nil) != (list.Err() != nil) {
				t.Errorf("configuration %v with error %v", cfg, list.Err())
			}
			checkPositions(t, data, list)
			check(t, ar, "problems", printed(list))
			check(t, ar, "schema", schemaSays(schema, data))
			if *update {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func check(t *testing.T, ar *txtar.Archive, name, got string) {
	t.Helper()
	want := section(ar, name)
	if *update {
		want.Data = []byte(got)
		return
	}
	if diff := cmp.Diff(string(want.Data), got); diff != "" {
		t.Errorf("%s differ (-want +got):\n%s", name, diff)
	}
}

func printed(list diag.List) string {
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.Error())
		b.WriteByte('\n')
	}
	return b.String()
}

// checkPositions checks what must be so of any list of problems: sorted, without
// repetitions, inside the file, with a message in the house style.
func checkPositions(t *testing.T, data []byte, list diag.List) {
	t.Helper()
	lines := strings.Split(string(data), "\n")
	seen := make(map[diag.Problem]bool)
	for i, p := range list {
		if seen[*p] {
			t.Errorf("told twice: %v", p)
		}
		seen[*p] = true
		if p.Pos.File != "config.yaml" {
			t.Errorf("in file %q: %v", p.Pos.File, p)
		}
		if n := p.Pos.Line; n < 0 || n > len(lines) || n > 0 && (p.Pos.Col < 1 || p.Pos.Col > len([]rune(lines[n-1]))+1) {
			t.Errorf("outside the file: %v", p)
		}
		if i > 0 && p.Pos.Line > 0 && (list[i-1].Pos.Line > p.Pos.Line || list[i-1].Pos.Line == p.Pos.Line && list[i-1].Pos.Col > p.Pos.Col) {
			t.Errorf("out of order: %v", p)
		}
		if p.Msg == "" || strings.HasSuffix(p.Msg, ".") || strings.Contains(p.Msg, "\n") || p.Hint == "" || strings.HasSuffix(p.Hint, ".") {
			t.Errorf("not in the form of messages: %v", p)
		}
	}
}
