package conf_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
)

// FuzzParse looks for input that makes the parser panic or hang, and checks that it
// says nothing about a file only if it accepts it.
func FuzzParse(f *testing.F) {
	for _, file := range examples(f) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	files, err := os.ReadDir("testdata/bad")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile("testdata/bad/" + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(section(ar, "config.yaml").Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hang := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("the parser hangs on %q", data)) })
		defer hang.Stop()
		cfg, list := conf.Parse("config.yaml", data, now)
		if (cfg == nil) != (list.Err() != nil) {
			t.Fatalf("configuration %v with error %v", cfg, list.Err())
		}
		checkFuzzed(t, data, list)
	})
}

// checkFuzzed checks of any list of problems what must be so whatever the input.
func checkFuzzed(t *testing.T, data []byte, list diag.List) {
	lines := bytes.Count(data, []byte("\n")) + 1
	for _, p := range list {
		if p.Pos.Line < 0 || p.Pos.Line > lines || p.Pos.Line > 0 && p.Pos.Col < 1 {
			t.Fatalf("outside the file: %v", p)
		}
		if p.Msg == "" || p.Hint == "" {
			t.Fatalf("no message or no hint: %v", p)
		}
		if strings.Contains(p.Msg, "YAML library gave up") {
			t.Fatalf("the YAML library panics: %v", p)
		}
	}
}

// TestHostileFilesAreQuick feeds a quarter of a megabyte of what YAML parsers are slow
// at. What takes quadratic time there, or more, does not end before the test does.
func TestHostileFilesAreQuick(t *testing.T) {
	const n = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, (n-2000)/len(s)) }
	deep := func() string {
		var b strings.Builder
		for i := 0; b.Len() < n-2*i-100; i++ {
			b.WriteString(strings.Repeat(" ", i) + "a:\n")
		}
		return b.String()
	}
	numbered := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < n-2000; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	rules := twoZones + "allow:\n"
	for name, data := range map[string]string{
		"empty values":     fill("a:\n"),
		"numbered values":  numbered("a%d:\n"),
		"empty items":      "a:\n" + fill("-\n"),
		"block keys":       numbered("a%d: b\n"),
		"flow keys":        "a: {" + fill("a: b,\n ") + "}",
		"flow items":       "a: [" + fill("a,\n ") + "]",
		"dashes":           fill("- "),
		"dashes, lines":    fill(strings.Repeat("- ", 4000) + "\n"),
		"brackets":         fill("["),
		"braces":           fill("{\n "),
		"questions":        fill("? "),
		"blank text":       "a: |\n" + fill("\n"),
		"blank folded":     "a: >\n" + fill("\n"),
		"multi-line":       "a: b\n" + fill("  b\n"),
		"multi-line quote": "a: \"" + fill("b\n  ") + "\"",
		"documents":        fill("---\n"),
		"anchors":          fill("a: &a b\n"),
		"aliases":          fill("a: *a\n"),
		"tags":             fill("a: !!str b\n"),
		"comments":         fill("#\n"),
		"blank lines":      "a: b\n" + fill("\n") + "c: d\n",
		"deep":             deep(),
		"long line":        "a: " + fill("x"),
		"quotes":           fill("\"\" "),
		"tabs":             fill("\t\n"),
		"zones":            "zones:\n" + numbered("  z%d: {port: p, subnet: 10.0.0.0/8}\n"),
		"zones, flow":      "zones: {\n" + numbered("  z%d: {port: p, subnet: 10.0.0.0/8},\n") + "}\n",
		"devices":          twoZones + "devices:\n" + numbered("  d%d: {zone: zome}\n"),
		"groups":           twoZones + "groups:\n" + numbered("  g%[1]d: [g%[1]d]\n"),
		"unknown names":    rules + numbered("  - {from: z%[1]d, to: y%[1]d}\n"),
		"unknown words":    rules + "  - {name: a, from: iot, to: home, why: x, protocols: [\n" + numbered("    protocol%d,\n") + "  ]}\n",
		"items of a rule":  rules + "  - {name: a, to: iot, why: x, protocols: any, from: [\n" + numbered("    10.0.0.0/24, p%d,\n") + "  ]}\n",
		"twice":            rules + "  - {name: a, to: iot, why: x, protocols: any, from: [\n" + fill("    home,\n") + "  ]}\n",
		"ports of a rule":  rules + "  - {name: a, to: iot, why: x, from: home, protocols: [\n" + numbered("    tcp/%d,\n") + "  ]}\n",
		"forwards":         rules + "forwards:\n" + numbered("  - {name: f%d, protocols: [tcp/1-65535]}\n"),
		"rules":            rules + numbered("  - {name: r%d, from: home, to: iot, protocols: any, why: x}\n"),
		"tests":            rules + "tests:\n" + fill("  - {from: home, to: iot, protocols: any, expect: deny}\n"),
		"list as list":     rules + fill("  - []\n"),
		"unknown keys":     twoZones + fill("alllow: 1\n"),
		"system keys":      "system: {\n" + numbered("  name%d: x,\n") + "}\n",
		"resolvers":        twoZones + "resolvers: [\n" + numbered("  10.0.0.%d,\n") + "  ]\n",
	} {
		t.Run(name, func(t *testing.T) {
			if len(data) > n {
				data = data[:n]
			}
			done := make(chan diag.List, 1)
			go func() {
				_, list := conf.Parse("hostile.yaml", []byte(data), now)
				done <- list
			}()
			start := time.Now()
			select {
			case list := <-done:
				t.Logf("%v, %d problems, the last: %v", time.Since(start).Round(time.Millisecond), len(list), list[max(len(list)-1, 0):])
			case <-time.After(30 * time.Second): // against half a second, or so, where it was written
				t.Fatal("the parser hangs")
			}
		})
	}
}
