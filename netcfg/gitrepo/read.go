package gitrepo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxObject bounds an object that is read, in bytes: no configuration is as large.
const maxObject = 8 << 20

// OpenRead opens a repository that this package has written, for reading.
func OpenRead(dir string) (*Repo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Repo{root: root}, nil
}

// object reads an object and checks that it is the one of that name.
func (r *Repo) object(id ID) (Object, error) {
	f, err := r.root.Open(loose(id))
	if err != nil {
		return Object{}, err
	}
	defer f.Close()
	o, err := decode(f)
	if err == nil && o.ID != id {
		err = errors.New("it is not what was written")
	}
	if err != nil {
		return Object{}, fmt.Errorf("object %s: %w", id, err)
	}
	return o, nil
}

func decode(f io.Reader) (Object, error) {
	z, err := zlib.NewReader(bufio.NewReader(f))
	if err != nil {
		return Object{}, err
	}
	data, err := io.ReadAll(io.LimitReader(z, maxObject+1))
	if err != nil {
		return Object{}, err
	}
	if len(data) > maxObject {
		return Object{}, fmt.Errorf("larger than %d bytes", maxObject)
	}
	head, content, _ := bytes.Cut(data, []byte{0})
	for _, k := range []Kind{KindCommit, KindTree, KindBlob} {
		if string(head)+"\x00" == string(header(k, len(content))) {
			return newObject(k, content), nil
		}
	}
	return Object{}, errors.New("neither a commit nor a tree nor a blob")
}

// ErrDiverged says that what somebody has is no part of the history.
var ErrDiverged = errors.New("not part of this history")

// Since returns the commits from head back to the one that somebody has, which is left
// out, or to the beginning if have is zero. Cut are those among them whose parent was
// forgotten. The error wraps [ErrDiverged] if have is not among head's ancestors.
func (r *Repo) Since(head, have ID) (commits, cut []ID, err error) {
	for id := head; id != have; {
		commits = append(commits, id)
		o, err := r.object(id)
		if err != nil {
			return nil, nil, err
		}
		_, parent, err := links(o)
		switch {
		case err != nil:
			return nil, nil, err
		case parent == have: // both may be zero
			return commits, cut, nil
		case parent == ID{}:
			return nil, nil, fmt.Errorf("commit %s is %w", have, ErrDiverged)
		case !r.Has(parent) && have == ID{}:
			return commits, append(cut, id), nil
		case !r.Has(parent):
			return nil, nil, fmt.Errorf("commit %s is %w, as far back as that goes", have, ErrDiverged)
		}
		id = parent
	}
	return commits, cut, nil
}

// links returns the objects that a commit of ours names.
func links(o Object) (tree, parent ID, err error) {
	if o.Kind != KindCommit {
		return ID{}, ID{}, fmt.Errorf("object %s is a %s, not a commit", o.ID, o.Kind)
	}
	text := string(o.Data)
	if tree, text, err = link(text, "tree "); err != nil {
		return ID{}, ID{}, err
	}
	if strings.HasPrefix(text, "parent ") {
		parent, _, err = link(text, "parent ")
	}
	return tree, parent, err
}

func link(text, key string) (id ID, rest string, err error) {
	line, rest, _ := strings.Cut(text, "\n")
	s, ok := strings.CutPrefix(line, key)
	if !ok {
		return ID{}, "", fmt.Errorf("a commit without %q", key)
	}
	id, err = ParseID(s)
	return id, rest, err
}

// WritePack writes commits, with the tree and the file of each, as a pack: version 2,
// no deltas. gitformat-pack(5).
func (r *Repo) WritePack(w io.Writer, commits []ID) error {
	ids, err := r.whole(commits)
	if err != nil {
		return err
	}
	sum := sha1.New()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(ids)))
	if _, err := out.Write(head); err != nil {
		return err
	}
	for _, id := range ids {
		o, err := r.object(id)
		if err != nil {
			return err
		}
		if err := packed(out, o); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// whole lists commits with the objects they name, each once.
func (r *Repo) whole(commits []ID) ([]ID, error) {
	var ids []ID
	seen := map[ID]bool{}
	add := func(id ID) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, id := range commits {
		commit, err := r.object(id)
		if err != nil {
			return nil, err
		}
		treeID, _, err := links(commit)
		if err != nil {
			return nil, err
		}
		tree, err := r.object(treeID)
		if err != nil {
			return nil, err
		}
		if tree.Kind != KindTree || len(tree.Data) < len(ID{}) {
			return nil, fmt.Errorf("object %s is not a tree of ours", treeID)
		}
		add(id)
		add(treeID)
		add(ID(tree.Data[len(tree.Data)-len(ID{}):])) // its only entry ends in it
	}
	return ids, nil
}

// packed writes one object of a pack: its kind and length, four bits of that in the
// first byte and seven in each that follows, and its content.
func packed(w *bufio.Writer, o Object) error {
	n := len(o.Data)
	b := byte(o.Kind)<<4 | byte(n&15)
	for n >>= 4; n > 0; n >>= 7 {
		_ = w.WriteByte(b | 0x80) // errors stay with the writer
		b = byte(n & 0x7f)
	}
	_ = w.WriteByte(b)
	z := zlib.NewWriter(w)
	_, err := z.Write(o.Data)
	return errors.Join(err, z.Close())
}
