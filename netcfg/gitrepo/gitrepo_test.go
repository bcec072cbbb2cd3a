package gitrepo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/gitrepo"
)

// git runs git, which is the judge of what we write, apart from its user's settings.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_PAGER=cat", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// line is a line of n commits, made by several people.
func line(n int) []gitrepo.Commit {
	var list []gitrepo.Commit
	for i := range n {
		c := gitrepo.Commit{
			Author: []string{"alex", "Kim Ö. <kim@example.com>", ""}[i%3], Time: time.Date(2026, 11, 1+i, 12, 0, 0, 5, time.FixedZone("", 3600)),
			Message: fmt.Sprintf("change %d\n\nguest → internet: any becomes possible", i+1), File: "configs/home.yaml", Data: fmt.Appendf(nil, "zones: %d\n", i+1),
		}
		if i > 0 {
			c.Parent = list[i-1].ID()
		}
		list = append(list, c)
	}
	return list
}

func add(t *testing.T, dir string, commits []gitrepo.Commit) (added int) {
	t.Helper()
	r, err := gitrepo.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := func(yield func(gitrepo.Commit, error) bool) {
		for _, c := range commits {
			if !yield(c, nil) {
				return
			}
		}
	}
	if added, err = r.Add(all); err != nil {
		t.Fatal(err)
	}
	return added
}

func TestGitReadsWhatIsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history.git")
	if n := add(t, dir, line(4)); n != 4 {
		t.Errorf("added %d commits, want 4", n)
	}
	if out := git(t, dir, "fsck", "--strict", "--no-dangling"); strings.Contains(out, "warning") || strings.Contains(out, "error") {
		t.Errorf("git fsck says:\n%s", out)
	}
	want := `change 4|alex|2026-11-04T11:00:00+00:00
change 3|unknown|2026-11-03T11:00:00+00:00
change 2|Kim Ö. kim@example.com|2026-11-02T11:00:00+00:00
change 1|alex|2026-11-01T11:00:00+00:00
`
	if diff := cmp.Diff(want, git(t, dir, "log", "--format=%s|%an|%aI", "main")); diff != "" {
		t.Errorf("git log differs (-want +got):\n%s", diff)
	}
	if out := git(t, dir, "log", "-p", "-1"); !strings.Contains(out, "-zones: 3\n+zones: 4\n") || !strings.Contains(out, "guest → internet: any") {
		t.Errorf("git log -p says:\n%s", out)
	}
	if got := git(t, dir, "show", "main~2:home.yaml"); got != "zones: 2\n" {
		t.Errorf("the file of change 2 is %q", got)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, dir, "clone", "-q", dir, clone)
	if got, err := os.ReadFile(filepath.Join(clone, "home.yaml")); err != nil || string(got) != "zones: 4\n" {
		t.Errorf("a clone holds %q, %v", got, err)
	}
}

// TestCommitIDsNeverChange holds the IDs that boxes have pushed already: with others,
// the next push would not continue what the remote has.
func TestCommitIDsNeverChange(t *testing.T) {
	var got []string
	for _, c := range line(2) {
		for _, o := range c.Objects() {
			got = append(got, o.Kind.String()+" "+o.ID.String())
		}
	}
	dir := t.TempDir()
	add(t, dir, line(2))
	for _, s := range got {
		kind, id, _ := strings.Cut(s, " ")
		if said := strings.TrimSpace(git(t, dir, "cat-file", "-t", id)); said != kind {
			t.Errorf("git says that %s %s is a %s", kind, id, said)
		}
	}
	want := []string{
		"blob 5230317d4a0cb07e30dfef3b80ccb682a279a803",
		"tree ddc1e7f6419c1304cf5970d70c10c1efb1c1a729",
		"commit 6a01a632f27329a09929744e8c0fe0d9744adeec",
		"blob 792c6d61c1c03f9850c0a6828f4ba661bfc1e2b5",
		"tree f38dd989f3c323f6b1882560c07bd693929adea2",
		"commit 570f12e0a51de3b0e5e26b2d65840e6e790b905d",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects differ (-want +got):\n%s", diff)
	}
}

// tree lists all files below dir with their content and time.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		list[strings.TrimPrefix(path, dir)] = string(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAddingAgainAddsWhatIsNew(t *testing.T) {
	dir, whole := t.TempDir(), t.TempDir()
	add(t, dir, line(3))
	before := tree(t, dir)
	if n := add(t, dir, line(3)); n != 0 {
		t.Errorf("added %d commits that are there", n)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("adding nothing changed files (-before +after):\n%s", diff)
	}
	if n := add(t, dir, line(5)); n != 2 {
		t.Errorf("added %d commits, want 2", n)
	}
	add(t, whole, line(5))
	if diff := cmp.Diff(tree(t, whole), tree(t, dir)); diff != "" {
		t.Errorf("adding in two goes gives other bytes (-once +twice):\n%s", diff)
	}
	git(t, dir, "fsck", "--strict")
}

func TestHistoryWhoseBeginningWasForgotten(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, line(5)[3:])
	git(t, dir, "fsck", "--strict")
	if got := git(t, dir, "log", "--format=%s"); got != "change 5\nchange 4\n" {
		t.Errorf("git log says %q", got)
	}
	kept := t.TempDir() // exported while the beginning was there
	add(t, kept, line(4))
	if n := add(t, kept, line(5)[3:]); n != 1 {
		t.Errorf("added %d commits, want 1", n)
	}
	git(t, kept, "gc", "-q")
	add(t, kept, line(6)[3:])
	git(t, kept, "fsck", "--strict")
	if got := git(t, kept, "rev-list", "--count", "main"); got != "6\n" {
		t.Errorf("%s commits are left of 6", got)
	}
}

func TestWhatIsSomebodyElsesIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gitrepo.Open(dir); !errors.Is(err, gitrepo.ErrForeign) {
		t.Errorf("a directory with a letter: %v", err)
	}
	theirs := t.TempDir()
	git(t, theirs, "init", "-q", "--bare")
	if _, err := gitrepo.Open(theirs); !errors.Is(err, gitrepo.ErrForeign) {
		t.Errorf("somebody's repository: %v", err)
	}
}

// FuzzAnyChangeIsAGoodCommit feeds git what people may call themselves and their files.
func FuzzAnyChangeIsAGoodCommit(f *testing.F) {
	f.Add("alex", "why", "home.yaml", int64(0))
	f.Add("a <b> c\n\x00", "\x00\xff\n\n", "../.git", int64(-5))
	f.Add("...", "", "git~1", int64(1)<<62)
	f.Add("\u200b", "tree 1\n", "a/.gitmodules", int64(1767225600))
	f.Fuzz(func(t *testing.T, author, message, file string, at int64) {
		c := gitrepo.Commit{Author: author, Message: message, File: file, Time: time.Unix(at, 0), Data: []byte(message)}
		d := c
		d.Parent = c.ID()
		dir := t.TempDir()
		add(t, dir, []gitrepo.Commit{c, d})
		if out := git(t, dir, "fsck", "--strict", "--no-dangling"); out != "" {
			t.Errorf("git fsck says:\n%s", out)
		}
	})
}

func TestParseID(t *testing.T) {
	const good = "0123456789abcdef0123456789abcdef01234567"
	if id, err := gitrepo.ParseID(good); err != nil || id.String() != good {
		t.Errorf("got %s, %v", id, err)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), "x" + good[1:]} {
		if _, err := gitrepo.ParseID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
