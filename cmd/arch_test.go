// Package cmd_test holds the rules on what may import what, and other rules on the
// tree that reviewers should not have to remember.
package cmd_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mod = "bulkhead/"

// layers says, for each package, which of our packages it may import, directly or
// not. A trailing /... covers a tree. A package without a line fails the test:
// whoever adds one decides where it belongs.
var layers = map[string][]string{
	"netcfg/diag":  {},
	"netcfg/model": {"netcfg/diag"}, // rules know where in the file they stand
	"netcfg/conf":  {"netcfg/model", "netcfg/diag"},
	// edit asks conf where in a text things stand, and whether the new text is one.
	"netcfg/conf/edit": {"netcfg/conf", "netcfg/model", "netcfg/diag"},
	"netcfg/facts":     {},
	"netcfg/svcconf":   {"netcfg/model", "netcfg/diag"}, // MAC and Resolver are the model's
	"netcfg/nft":       {},
	"netcfg/state":     {"netcfg/nft"},
	// policy knows the daemons' users: what each may send is part of its meaning.
	"netcfg/policy": {"netcfg/model", "netcfg/diag", "netcfg/svcconf"},
	// reach reads addresses and routes beside the ruleset.
	"netcfg/reach": {"netcfg/nft", "netcfg/model", "netcfg/diag", "netcfg/state"},
	"netcfg/compile": {"netcfg/model", "netcfg/diag", "netcfg/facts", "netcfg/policy", "netcfg/state", "netcfg/nft",
		"netcfg/svcconf"},
	"netcfg/plan": {"netcfg/state", "netcfg/nft", "netcfg/policy", "netcfg/model", "netcfg/diag", "netcfg/svcconf"},
	// impact asks the compiled rules whether the author still gets in.
	"netcfg/impact":  {"netcfg/policy", "netcfg/reach", "netcfg/state", "netcfg/nft", "netcfg/model", "netcfg/diag", "netcfg/svcconf"},
	"netcfg/suggest": {"netcfg/policy", "netcfg/model", "netcfg/diag", "netcfg/svcconf"},
	"netcfg/txn":     {"services/file", "netcfg/gitrepo"}, // entries know their commit: it must stay what it was
	"netcfg/apply":   {"services/file", "netcfg/strictjson", "netcfg/state", "netcfg/nft", "netcfg/plan", "netcfg/facts", "netcfg/policy", "netcfg/model", "netcfg/diag", "netcfg/svcconf"},
	// api shows the uplink's lease, which is a fact.
	"netcfg/api":     {"netcfg/textdiff", "services/auth/api", "services/auth/access", "services/auth/audit", "services/file", "services/sock", "netcfg/strictjson", "netcfg/facts", "netcfg/model", "netcfg/diag", "netcfg/plan", "netcfg/impact", "netcfg/reach", "netcfg/state", "netcfg/nft", "netcfg/policy", "netcfg/svcconf"},
	"netcfg/secrets": {"services/file"},
	// backup has the leases as they are published.
	"netcfg/backup": {"netcfg/strictjson", "netcfg/svcconf", "netcfg/model", "netcfg/diag"},
	// reconcile is the body of netcfgd: the one place where all of netcfg meets. It asks
	// updated for the keys that go into a backup.
	"netcfg/reconcile": {"netcfg/...", "services/auth/api", "services/auth/access", "services/auth/audit", "services/run", "services/privdrop", "services/file", "services/sock", "services/metrics",
		"services/update/api", "services/diag/api", "services/update/manifest"},
	"netcfg/nstest":     {},
	"netcfg/strictjson": {},
	"netcfg/textdiff":   {},
	"netcfg/gitrepo":    {}, // writes a directory that it is given

	"services/ptytest":  {},
	"services/file":     {},
	"services/run":      {"services/file", "netcfg/strictjson"},
	"services/privdrop": {},
	// console asks netcfgd, as the CLI does, updated, and webuid who may come in.
	"services/console": {"netcfg/textdiff", "services/auth/api", "services/auth/access", "services/auth/audit", "netcfg/api", "netcfg/strictjson", "netcfg/facts", "netcfg/model", "netcfg/diag", "netcfg/plan", "netcfg/impact", "netcfg/reach", "netcfg/state", "netcfg/nft",
		"netcfg/policy", "netcfg/svcconf", "services/file", "services/run", "services/sock", "services/auth/access", "services/update/api", "services/diag/api", "services/update/manifest"},
	"services/sock":          {},
	"services/sock/sockhttp": {"services/sock"},
	// metrics knows who the daemons are, and that webuid collects.
	"services/metrics": {"services/sock", "netcfg/svcconf", "netcfg/model", "netcfg/diag"},
	// store syncs directories through file; records have the model's MACs.
	"services/flow/store": {"services/flow/record", "services/file", "netcfg/model", "netcfg/diag"},
	// boottest starts from boot partitions as the firmware does.
	"services/update/boot/boottest": {"services/update/..."},

	// access decides who gets in; it speaks with nobody.
	"services/auth/access": {"services/file"},
	// authtest is the service, for tests.
	"services/auth/authtest": {"services/auth/...", "services/run", "services/file", "services/sock", "services/metrics", "netcfg/..."},
	// webui hands the key that comes with a claim to updated, and compares the file that
	// somebody proposes with the one in force, as texts. Forms become edits of that text:
	// netcfgd reads what comes out as it reads any other file.
	// It takes apart an image that a browser uploads, as the CLI does: updated, which is
	// root, sees what was signed. Rules are drafted from flows as the CLI drafts them.
	"webui": {"webui/report", "services/diag/api", "services/diag/pcap", "netcfg/suggest", "services/update/gaf", "services/update/fat", "netcfg/textdiff", "netcfg/conf", "netcfg/conf/edit", "services/flow/api", "services/flow/inventory", "services/flow/record", "services/auth/api", "services/auth/access", "services/auth/audit", "services/update/api", "services/update/manifest", "services/run", "services/file", "services/sock/...", "services/metrics", "netcfg/api", "netcfg/strictjson", "netcfg/facts", "netcfg/model", "netcfg/diag",
		"netcfg/plan", "netcfg/impact", "netcfg/reach", "netcfg/state", "netcfg/nft", "netcfg/policy", "netcfg/svcconf"},
	// report is told all it writes about; rules of no use are found as the CLI finds them.
	"webui/report": {"netcfg/textdiff", "netcfg/suggest", "services/flow/api", "services/flow/inventory", "services/flow/record", "services/auth/api", "services/auth/access", "services/auth/audit", "services/file", "services/sock", "netcfg/api", "netcfg/strictjson", "netcfg/facts", "netcfg/model", "netcfg/diag",
		"netcfg/plan", "netcfg/impact", "netcfg/reach", "netcfg/state", "netcfg/nft", "netcfg/policy", "netcfg/svcconf"},
	// remote is the workstation's end of what webui serves, netcfgd's API included.
	"webui/remote": {"netcfg/textdiff", "services/auth/api", "services/auth/access", "services/auth/audit", "services/file", "services/sock", "netcfg/api", "netcfg/strictjson", "netcfg/facts", "netcfg/model", "netcfg/diag",
		"netcfg/plan", "netcfg/impact", "netcfg/reach", "netcfg/state", "netcfg/nft", "netcfg/policy", "netcfg/svcconf"},
}

// banned names what may not be imported, and why.
var banned = []struct{ pkgs, dep, why string }{
	{"netcfg/model", "os", "model is pure"}, {"netcfg/model", "net", "model is pure: use net/netip"},
	{"netcfg/conf/...", "os", "conf opens no files: it is handed bytes"},
	{"netcfg/policy", "os", "policy is pure"}, {"netcfg/policy", "net", "policy is pure: use net/netip"},
	{"netcfg/compile", "os", "the compiler reads and writes nothing"}, {"netcfg/compile", "net", "the compiler is pure: use net/netip"},
	{"netcfg/reach", "os", "reach is pure"}, {"netcfg/reach", "net", "reach is pure: use net/netip"},
	{"netcfg/plan", "os", "plan is pure"}, {"netcfg/plan", "net", "plan is pure: use net/netip"},
	{"netcfg/impact", "os", "impact is pure"}, {"netcfg/impact", "net", "impact is pure: use net/netip"},
	{"netcfg/suggest", "os", "suggest is pure"}, {"netcfg/suggest", "net", "suggest is pure: use net/netip"},
	{"netcfg/textdiff", "os", "textdiff compares texts that it is handed"},
	{"netcfg/nft", "os", "nft describes a ruleset and loads nothing"}, {"netcfg/state", "os", "state is pure"},
	{"services/...", "github.com/google/nftables", "services cannot touch the firewall"},
	{"services/...", "github.com/jsimonetti/rtnetlink/v2", "services change links only through netcfgd"},
	{"services/flow/record", "os", "record is pure"}, {"services/flow/record", "net", "record is pure: use net/netip"},
	{"services/flow/inventory", "os", "the inventory is told what was seen"}, {"services/flow/inventory", "net", "the inventory is pure: use net/netip"},
	{"services/export/ipfix", "os", "the encoder sends nothing"}, {"services/export/ipfix", "net", "the encoder is pure: use net/netip"},
	{"services/diag/filter", "os", "a filter sees no packet"}, {"services/diag/filter", "net", "a filter is pure: use net/netip"},
	{"services/diag/pcap", "os", "a capture file is written where it is told"}, {"services/diag/pcap", "net", "a capture file holds bytes"},
	{"services/wan/dhcp4", "os", "the client is a state machine without files"}, {"services/wan/dhcp4", "net", "the client is a state machine without sockets"},
	{"webui/report", "os", "report is told what it writes about"}, {"webui/report", "net", "report is told what it writes about"},
	{"webui/...", "github.com/google/nftables", "the UI asks netcfgd; it changes nothing itself"},
	{"webui/...", "github.com/jsimonetti/rtnetlink/v2", "the UI asks netcfgd; it changes nothing itself"},
	{"netcfg/policy", "github.com/google/nftables", "the meaning of a policy does not depend on the kernel's encoding"},
}

// clockless are packages that are told the time and never ask for it.
var clockless = []string{"netcfg/model", "netcfg/conf", "netcfg/conf/edit", "netcfg/facts", "netcfg/policy", "netcfg/compile", "netcfg/reach", "netcfg/plan", "netcfg/impact", "netcfg/suggest",
	"netcfg/nft", "netcfg/textdiff", "netcfg/gitrepo", "netcfg/state", "netcfg/svcconf", "services/wan/dhcp4", "services/dhcp/lease", "services/dhcp/history",
	"services/flow/record", "services/flow/inventory", "services/export/ipfix", "webui/report"}

type pkg struct {
	ImportPath, Dir, Name string
	Imports, Deps         []string
	GoFiles, TestGoFiles  []string
	XTestGoFiles          []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Imports,Deps,GoFiles,TestGoFiles,XTestGoFiles", mod+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, mod)
		allowed, ok := lookup(name)
		if !ok && name != "cmd" { // this package: tests only
			t.Errorf("%s has no line in layers", name)
		}
		for _, dep := range p.Deps {
			ours, isOurs := strings.CutPrefix(dep, mod)
			if ok && isOurs && !slices.ContainsFunc(allowed, func(pat string) bool { return matches(pat, ours) }) {
				t.Errorf("%s may not import %s", name, ours)
			}
		}
		for _, b := range banned {
			// The standard library reaches os and net from anywhere, so for
			// those only direct imports count.
			list := p.Deps
			if !strings.Contains(b.dep, ".") {
				list = p.Imports
			}
			if matches(b.pkgs, name) && slices.Contains(list, b.dep) {
				t.Errorf("%s imports %s: %s", name, b.dep, b.why)
			}
		}
	}
}

// lookup finds a package's line. Services share one: no service imports another.
// Test helpers may import what they like, and only tests import them.
func lookup(name string) ([]string, bool) {
	if l, ok := layers[name]; ok {
		return l, true
	}
	switch top, rest, _ := strings.Cut(name, "/"); {
	case strings.HasSuffix(name, "test"):
		return []string{"netcfg/..."}, true
	case top == "services":
		own, _, _ := strings.Cut(rest, "/")
		l := []string{"netcfg/svcconf", "netcfg/model", "netcfg/diag", "netcfg/strictjson", "services/run", "services/privdrop", "services/file", "services/sock/...", "services/checksum", "services/onlink", "services/probe", "services/metrics", "services/" + own + "/..."}
		if own == "wan" {
			l = append(l, "netcfg/facts") // the lease that it writes is a fact
		}
		if own == "update" {
			l = append(l, "services/diag/api", "services/diag/pcap")                          // what it has diagd do
			l = append(l, "services/auth/api", "services/auth/access", "services/auth/audit") // who asks it
		}
		if own == "dns" {
			l = append(l, "services/notice") // runs beside it, for those who do not get to it
		}
		if own == "push" {
			l = append(l, "netcfg/gitrepo") // what it pushes
		}
		if own == "export" {
			l = append(l, "services/flow/record") // what it passes on: the values, not who makes them
		}
		return l, true
	case top == "images": // webui: a lab's owner has a workstation
		return []string{"netcfg/...", "services/...", "images/...", "webui/..."}, true
	case top == "cmd":
		return []string{"netcfg/...", "services/...", "images/...", "webui/...", "cmd/..."}, true
	}
	return nil, false
}

func matches(pattern, pkg string) bool {
	tree, ok := strings.CutSuffix(pattern, "/...")
	return pkg == tree || ok && strings.HasPrefix(pkg, tree+"/") || !ok && pkg == pattern
}

// testPrograms are the parts of tests that run in a machine of their own.
var testPrograms = []string{"images/kernel/guest"}

func TestOnlyTestsImportTestHelpers(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(testPrograms, strings.TrimPrefix(p.ImportPath, mod)) {
			continue
		}
		for _, dep := range p.Imports {
			if strings.HasPrefix(dep, mod) && strings.HasSuffix(dep, "test") && !strings.HasSuffix(p.ImportPath, "test") {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, dep)
			}
		}
	}
}

// parse parses a package's own files, without tests.
func parse(t *testing.T, p pkg) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return files
}

func TestPurePackagesAskNoClock(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, mod)
		if !slices.Contains(clockless, name) {
			continue
		}
		for file, f := range parse(t, p) {
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "Tick"}, sel.Sel.Name) {
					t.Errorf("%s/%s asks the clock (time.%s): the time comes in as an argument", name, file, sel.Sel.Name)
				}
				return true
			})
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		docs := 0
		for _, f := range parse(t, p) {
			if f.Doc != nil {
				docs++
			}
		}
		if docs != 1 {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, docs)
		}
	}
}

// TestMainsAreWiring keeps logic out of the daemons' mains, where no test reaches.
func TestMainsAreWiring(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name != "main" || p.ImportPath == mod+"cmd/bulkhead" || !strings.HasPrefix(p.ImportPath, mod+"cmd/") {
			continue
		}
		for _, name := range p.GoFiles {
			data, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(data), "\n"); n > 60 {
				t.Errorf("%s/%s has %d lines, more than 60", p.ImportPath, name, n)
			}
		}
	}
}

// TestTopLevel keeps the top of the tree as it was decided.
func TestTopLevel(t *testing.T) {
	allowed := []string{".ci", ".git", ".gitignore", "LICENSE", "Makefile", "README.md", "bin", "cmd", "configs", "docs", "go.mod", "go.sum",
		"images", "netcfg", "out", "services", "staticcheck.conf", "webui"}
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		if path == "." || err != nil {
			return err
		}
		if !slices.Contains(allowed, path) {
			t.Errorf("%s does not belong at the top level", path)
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "\nreplace ") {
		t.Error("go.mod has a replace directive: dependencies come as they are published")
	}
}
