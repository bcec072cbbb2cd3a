package gitrepo_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"bulkhead/netcfg/gitrepo"
)

func TestGitTakesThePack(t *testing.T) {
	dir := t.TempDir()
	list := line(20)
	list[19].Data = bytes.Repeat([]byte("zones: many\n"), 10000) // lengths of several bytes
	add(t, dir, list)
	r, err := gitrepo.OpenRead(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head, have := list[19].ID(), list[4].ID()
	commits, cut, err := r.Since(head, have)
	if err != nil || len(commits) != 15 || cut != nil {
		t.Fatalf("%d commits, cut at %v, %v", len(commits), cut, err)
	}
	var pack bytes.Buffer
	if err := r.WritePack(&pack, commits); err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	git(t, theirs, "init", "-q", "--bare")
	git(t, theirs, "fetch", "-q", dir, have.String()+":refs/heads/main")
	cmd := exec.Command("git", "index-pack", "--strict", "--stdin")
	cmd.Dir, cmd.Stdin = theirs, &pack
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git index-pack: %v\n%s", err, out)
	}
	git(t, theirs, "update-ref", "refs/heads/main", head.String())
	git(t, theirs, "fsck", "--strict")
	if got := git(t, theirs, "rev-list", "--count", "main"); got != "20\n" {
		t.Errorf("they have %s commits, want 20", got)
	}
}

func TestSince(t *testing.T) {
	whole, late := t.TempDir(), t.TempDir()
	list := line(6)
	add(t, whole, list)
	add(t, late, list[3:])
	stranger := gitrepo.Commit{Message: "somebody else's"}.ID()
	tests := []struct {
		name         string
		dir          string
		have         gitrepo.ID
		commits, cut int
		err          error
	}{
		{"nothing there", whole, gitrepo.ID{}, 6, 0, nil},
		{"some there", whole, list[2].ID(), 3, 0, nil},
		{"all there", whole, list[5].ID(), 0, 0, nil},
		{"something else there", whole, stranger, 0, 0, gitrepo.ErrDiverged},
		{"nothing there, beginning forgotten", late, gitrepo.ID{}, 3, 1, nil},
		{"up to what was forgotten there", late, list[2].ID(), 3, 0, nil},
		{"less than what was forgotten there", late, list[1].ID(), 0, 0, gitrepo.ErrDiverged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := gitrepo.OpenRead(tt.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			commits, cut, err := r.Since(list[5].ID(), tt.have)
			if len(commits) != tt.commits || len(cut) != tt.cut || !errors.Is(err, tt.err) {
				t.Errorf("%d commits, %d cut, %v", len(commits), len(cut), err)
			}
		})
	}
}

// FuzzDecode reads objects that a broken disk has left.
func FuzzDecode(f *testing.F) {
	for _, o := range line(2)[1].Objects() {
		f.Add(fmt.Sprintf("%s %d\x00%s", o.Kind, len(o.Data), o.Data))
	}
	f.Add("commit 6\x00tree x")
	f.Fuzz(func(t *testing.T, text string) {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, err := z.Write([]byte(text))
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		o, err := gitrepo.Decode(&b)
		if err != nil {
			return
		}
		if got := fmt.Sprintf("%s %d\x00%s", o.Kind, len(o.Data), o.Data); got != text {
			t.Errorf("%q was read as %q", text, got)
		}
		if tree, _, err := gitrepo.Links(o); err == nil && !bytes.Contains(o.Data, []byte(tree.String())) {
			t.Errorf("%q names no tree %s", o.Data, tree)
		}
	})
}
