package gitrepo

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
)

// Branch is the one branch that is written.
const Branch = "refs/heads/main"

// files are the files of a repository that holds nothing yet.
var files = []struct{ name, text string }{
	{"HEAD", "ref: " + Branch + "\n"},
	{"config", "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n"},
	{"description", "Configurations of a Bulkhead box, one commit for each change that was confirmed\n"},
}

// A Repo is a bare repository in a directory.
type Repo struct {
	root  *os.Root
	modes modes
}

// modes of what is written.
type modes struct{ dir, file fs.FileMode }

// ErrForeign says that a directory holds something other than a repository of ours.
var ErrForeign = errors.New("not an exported history")

// Open opens the repository in dir, or makes one where there is nothing or an empty
// directory. The error wraps [ErrForeign] if something else is there.
func Open(dir string) (*Repo, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r := &Repo{root: root, modes: modes{0o755, 0o644}}
	if err := r.prepare(); err != nil {
		root.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

// Close releases the directory.
func (r *Repo) Close() error { return r.root.Close() }

// prepare makes what is missing. The last file that is made tells that all others are
// there.
func (r *Repo) prepare() error {
	const last = "description"
	text, err := r.root.ReadFile(last)
	switch {
	case err == nil && string(text) == files[len(files)-1].text:
	case err == nil:
		return ErrForeign
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if err := r.unfinished(); err != nil {
			return err
		}
	}
	for _, dir := range []string{"objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"} {
		if err := r.root.MkdirAll(dir, r.modes.dir); err != nil {
			return err
		}
	}
	for _, f := range files {
		if _, err := r.root.Lstat(f.name); errors.Is(err, fs.ErrNotExist) {
			if err := r.replace(f.name, []byte(f.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unfinished reports whether there is no more than what prepare makes.
func (r *Repo) unfinished() error {
	entries, err := fs.ReadDir(r.root.FS(), ".")
	for _, e := range entries {
		switch e.Name() {
		case "HEAD", "config", "objects", "refs", temporary:
		default:
			return fmt.Errorf("%w: it holds %s", ErrForeign, e.Name())
		}
	}
	return err
}

// temporary is a file that is being written.
const temporary = "incoming.tmp"

// replace writes a file so that it is there whole or not at all, also after losing
// power.
func (r *Repo) replace(name string, data []byte) (err error) {
	f, err := r.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, r.modes.file)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, r.root.Remove(temporary))
	}
	if err := r.root.Rename(temporary, name); err != nil {
		return err
	}
	d, err := r.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func loose(id ID) string { s := id.String(); return "objects/" + s[:2] + "/" + s[2:] }

// Has reports whether an object is there. Somebody's git may have packed the objects,
// which this package does not look into: they are written again then, as git allows.
func (r *Repo) Has(id ID) bool {
	_, err := r.root.Lstat(loose(id))
	return err == nil
}

// Add adds commits, each with its parent before it, and makes the branch end in the
// last. It writes only what is not there, and returns how many commits that were. A
// commit whose parent is not there, as it was forgotten, becomes one at which the
// history begins for git: gitformat-shallow(5). With an error, the branch is what it
// was.
func (r *Repo) Add(commits iter.Seq2[Commit, error]) (added int, err error) {
	var cut []ID
	var id ID
	for c, err := range commits {
		if err != nil {
			return added, err
		}
		objects := c.Objects()
		id = objects[len(objects)-1].ID
		if c.Parent != (ID{}) && !r.Has(c.Parent) {
			cut = append(cut, id)
		}
		if r.Has(id) { // written after its blob and its tree
			continue
		}
		for _, o := range objects {
			if err := r.put(o); err != nil {
				return added, fmt.Errorf("write object %s: %w", o.ID, err)
			}
		}
		added++
	}
	if id == (ID{}) {
		return 0, nil // there were none
	}
	if err := r.shallow(cut); err != nil {
		return added, err
	}
	return added, r.setHead(id)
}

func (r *Repo) put(o Object) error {
	if r.Has(o.ID) {
		return nil
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, err1 := z.Write(header(o.Kind, len(o.Data)))
	_, err2 := z.Write(o.Data)
	if err := errors.Join(err1, err2, z.Close()); err != nil {
		return err
	}
	name := loose(o.ID)
	if err := r.root.MkdirAll(path.Dir(name), r.modes.dir); err != nil {
		return err
	}
	return r.replace(name, b.Bytes())
}

// shallow notes commits at which the history begins, beside those of before.
func (r *Repo) shallow(cut []ID) error {
	if len(cut) == 0 || r.packed() {
		return nil
	}
	old, err := r.root.ReadFile("shallow")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(old)
	for _, id := range cut {
		if !strings.Contains(text, id.String()) {
			text += id.String() + "\n"
		}
	}
	if text == string(old) {
		return nil
	}
	return r.replace("shallow", []byte(text))
}

// packed reports whether somebody's git has packed objects. What seems to be missing
// is in there.
func (r *Repo) packed() bool {
	packs, err := fs.ReadDir(r.root.FS(), "objects/pack")
	return err != nil || len(packs) > 0
}

// Head returns the commit that the branch ends in. The error wraps [fs.ErrNotExist] if
// there is none.
func (r *Repo) Head() (ID, error) {
	f, err := r.root.Open(Branch)
	if err != nil {
		return ID{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return ID{}, err
	}
	return ParseID(strings.TrimSuffix(string(data), "\n"))
}

func (r *Repo) setHead(id ID) error {
	if old, err := r.Head(); err == nil && old == id {
		return nil
	}
	return r.replace(Branch, []byte(id.String()+"\n"))
}
