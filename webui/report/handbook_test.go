package report_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/webui/report"
)

var update = flag.Bool("update", false, "write the golden file anew")

func handbookFrom(t *testing.T, text string) *report.Handbook {
	t.Helper()
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	cfg, problems := conf.Parse("home.yaml", []byte(text), now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return report.NewHandbook(cfg, api.MatrixOf(compile.Compile(cfg, compile.Offline(cfg, now)).Policy), 7, now)
}

func TestHandbookIsWhole(t *testing.T) {
	const golden = "testdata/handbook.md"
	data, err := os.ReadFile("../../configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := handbookFrom(t, string(data)).Markdown()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What people write into the file is text in the handbook, whatever it looks like, and the
// names of secrets are not in it.
func TestHandbookTakesWordsAsWords(t *testing.T) {
	h := handbookFrom(t, `
ports: {lan: {mac: "52:54:00:10:00:02"}}
resolvers: [{secret: planted-name}]
zones:
  home: {port: lan, subnet: 192.168.10.0/24, admin: true}
devices:
  tv: {zone: home, mac: "02:00:00:00:00:01", owner: "a|b", purpose: "<script>alert(1)</script>", note: "![x](http://evil.example) \u0060rm\u0060 *b* [l](u) # h"}
`)
	text := h.Markdown()
	for _, bad := range []string{"<script", "a|b", "![x]", "`rm`", "*b*", " [l]"} {
		for line := range strings.Lines(text) {
			plain := strings.ReplaceAll(line, `\`+bad[:1], "")
			if strings.HasPrefix(line, "| tv") && strings.Contains(plain, bad) {
				t.Errorf("%q means something: %s", bad, line)
			}
		}
	}
	if strings.Contains(text, "planted-name") {
		t.Error("the name of a secret is in it")
	}
	if got := strings.Count(strings.Split(text, "\n")[0], "#"); got != 1 {
		t.Errorf("the first line is no heading")
	}
}
