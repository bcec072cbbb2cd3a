package textdiff_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/textdiff"
)

func TestUnified(t *testing.T) {
	old := "zones:\n  management: 10\n  services: 20\n  iot: 40\nallow:\n- a\n- b\n- c\n- d\n- e\n- f\n- g\nend"
	new := "zones:\n  management: 10\n  iot: 41\nallow:\n- a\n- b\n- c\n- d\n- e\n- f\n- g\n- h\nend\n"
	want := `--- 1/home.yaml
+++ 2/home.yaml
@@ -1,7 +1,6 @@
 zones:
   management: 10
-  services: 20
-  iot: 40
+  iot: 41
 allow:
 - a
 - b
@@ -10,4 +9,5 @@
 - e
 - f
 - g
-end
\ No newline at end of file
+- h
+end
`
	if diff := cmp.Diff(want, textdiff.Unified("1/home.yaml", "2/home.yaml", old, new)); diff != "" {
		t.Errorf("difference differs (-want +got):\n%s", diff)
	}
	if got := textdiff.Unified("a", "b", old, old); got != "" {
		t.Errorf("no difference is %q", got)
	}
}

// patched is what patch(1) makes of the old text with the difference.
func patched(t *testing.T, old, new string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	diff := textdiff.Unified("f", "f", old, new)
	if diff == "" {
		return old
	}
	// No fuzz: the difference must fit exactly.
	cmd := exec.Command("patch", "--silent", "--fuzz=0", "--no-backup-if-mismatch", file)
	cmd.Stdin = strings.NewReader(diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("patch: %v\n%s\n%s", err, out, diff)
	}
	got, err := os.ReadFile(file)
	if os.IsNotExist(err) { // nothing is left of it
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestPlacesAreUnderHeadings(t *testing.T) {
	part := func(name, last string) string {
		return name + " {\n" + strings.Repeat("  rule\n", 5) + "  " + last + "\n}\n"
	}
	old := part("a", "x") + part("b", "x") + "  rule\n  rule\n  y\n"
	new := part("a", "x") + part("b", "z") + "  rule\n  rule\n  y\n"
	want := `--- old
+++ new
@@ -12,7 +12,7 @@ b {
   rule
   rule
   rule
-  x
+  z
 }
   rule
   rule
`
	got := textdiff.UnifiedUnder("old", "new", old, new, func(line string) bool { return strings.HasSuffix(line, "{\n") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the difference differs (-want +got):\n%s", diff)
	}
}

func TestPatchTakesIt(t *testing.T) {
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("patch is not installed")
	}
	g := rand.New(rand.NewPCG(1, 2))
	random := func(from []string) (list []string) {
		for _, l := range from {
			switch g.IntN(10) {
			case 0:
			case 1:
				list = append(list, fmt.Sprintln("new", g.IntN(20)), l)
			default:
				list = append(list, l)
			}
		}
		return list
	}
	for range 100 {
		var lines []string
		for range g.IntN(60) {
			lines = append(lines, fmt.Sprintln("line", g.IntN(30)))
		}
		old, new := strings.Join(random(lines), ""), strings.Join(random(lines), "")
		if g.IntN(3) == 0 {
			new = strings.TrimSuffix(new, "\n")
		}
		if diff := cmp.Diff(new, patched(t, old, new)); diff != "" {
			t.Fatalf("patched text differs (-want +got):\n%s", diff)
		}
	}
}

// FuzzUnified applies differences itself: a context line must be in both texts.
func FuzzUnified(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\n")
	f.Add("", "x")
	f.Add("a\na\na\nb", "b\na\na")
	f.Fuzz(func(t *testing.T, old, new string) {
		diff := textdiff.Unified("a", "b", old, new)
		if (diff == "") != (old == new) {
			t.Fatalf("equal %v, difference %q", old == new, diff)
		}
		gotOld, gotNew := sides(diff, old)
		if old != new && (gotOld != old || gotNew != new) {
			t.Errorf("from %q to %q gives\n%s\nwhich goes from %q to %q", old, new, diff, gotOld, gotNew)
		}
	})
}

// sides reads a difference back: both texts, with what lies between hunks from old.
func sides(diff, old string) (a, b string) {
	rest := strings.SplitAfter(old, "\n")
	at := 0 // lines of rest that were taken
	_, diff, _ = strings.Cut(diff, "\n")
	_, diff, _ = strings.Cut(diff, "\n")
	last := byte(0)
	for l := range strings.Lines(diff) {
		switch sign := l[0]; sign {
		case '@':
			var from, count int
			if n, _ := fmt.Sscanf(l, "@@ -%d,%d", &from, &count); n == 2 && count == 0 {
				from++
			}
			for ; at < from-1; at++ {
				a, b = a+rest[at], b+rest[at]
			}
		case '\\':
			if last != '+' {
				a = strings.TrimSuffix(a, "\n")
			}
			if last != '-' {
				b = strings.TrimSuffix(b, "\n")
			}
		default:
			if sign != '+' {
				a += l[1:]
				at++
			}
			if sign != '-' {
				b += l[1:]
			}
			last = sign
		}
	}
	for ; at < len(rest); at++ {
		a, b = a+rest[at], b+rest[at]
	}
	return a, b
}
