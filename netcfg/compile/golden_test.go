package compile_test

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// compileExample compiles one of the example configurations as a box would that
// has everything the file asks for, and a lease at the uplink.
func compileExample(t *testing.T, path string) *compile.Result {
	t.Helper()
	return compileFor(t, path, facts.Kernel{VLAN: true})
}

func compileFor(t *testing.T, path string, kernel facts.Kernel) *compile.Result {
	t.Helper()
	cfg := readExample(t, path)
	f := compile.Offline(cfg, now)
	f.Kernel = kernel
	f.Uplink = &facts.Lease{
		Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
		Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.53")}, Expires: now.Add(time.Hour),
	}
	return compile.Compile(cfg, f)
}

func readExample(t *testing.T, path string) *model.Config {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := conf.Parse(filepath.Base(path), data, now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return cfg
}

func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	return files
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// TestExamplesCompile compares what the examples compile to, complete, with files
// that a person can read: the ruleset as nft lists it, the rest as JSON.
func TestExamplesCompile(t *testing.T) {
	for _, path := range examples(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			r := compileExample(t, path)
			golden(t, "testdata/"+name+".nft", r.State.Ruleset.Table.String())
			r.State.Ruleset.Digest = "" // follows from the ruleset
			rest, err := json.MarshalIndent(map[string]any{
				"state": r.State, "dhcp": r.DHCP, "dns": r.DNS, "wan": r.WAN, "web": r.Web, "update": r.Update, "diag": r.Diag, "missing": r.Missing,
			}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+name+".json", string(rest)+"\n")
			for _, f := range r.Policy.Failures() {
				t.Errorf("%s: %s > %s %s: %+v", f.Test.Pos, f.Against.From.Name(), f.Against.To.Name(), f.Against.Service, f.Against.Decision)
			}
		})
	}
}

// TestExampleWithFlowtable compares a ruleset for a kernel with flowtables, which those
// that run the other tests need not have, with a file of its own.
func TestExampleWithFlowtable(t *testing.T) {
	r := compileFor(t, "../../configs/zero-trust.yaml", facts.Kernel{VLAN: true, Flowtable: true})
	golden(t, "testdata/zero-trust.flowtable.nft", r.State.Ruleset.Table.String())
}

// TestKernelReadsBackTheExamples loads each example's ruleset over netlink, as the
// box does without nft, and asks nft what is in the kernel: the golden file.
func TestKernelReadsBackTheExamples(t *testing.T) {
	for _, path := range examples(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			ns := nstest.New(t)
			rulesets, err := apply.OpenRulesets(ns)
			if err != nil {
				t.Fatal(err)
			}
			defer rulesets.Close()
			if _, err := rulesets.Load(compileExample(t, path).State.Ruleset.Table); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+name+".nft", nstest.Exec(t, ns, "nft", "list", "table", "inet", "bulkhead"))
		})
	}
}

// TestPairTextIsOfOnePair asks for a pair with a rule, and for one that there is not.
func TestPairTextIsOfOnePair(t *testing.T) {
	table := compileExample(t, "../../configs/zero-trust.yaml").State.Ruleset.Table
	text := compile.PairText(table, "services", "storage")
	for _, want := range []string{"chain services_storage {", `comment "nextcloud-data"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\tchain ") + strings.Count(text, "    chain "); n != 1 || strings.Contains(text, "services_internet") {
		t.Errorf("%d chains, or those of others, in\n%s", n, text)
	}
	if text := compile.PairText(table, "services", "nowhere"); text != "" {
		t.Errorf("got\n%s", text)
	}
}
