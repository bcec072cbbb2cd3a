// Package gitrepo writes a line of changes to one file as a git repository that any
// git reads: blobs, trees and commits, one parent each, no merges; and packs them for
// somebody who has some of them. It never reads what somebody else's git has written.
//
// The same changes give the same bytes, and so the same commit IDs, on any machine
// and at any time. Formats: git's Documentation/technical, "gitformat-pack" and
// "git-hash-object"; object IDs are SHA-1, as in every repository that does not say
// otherwise.
package gitrepo

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// ID is the name of an object: the SHA-1 of its kind, length and content.
type ID [sha1.Size]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads 40 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) || strings.ToLower(s) != s {
		return ID{}, fmt.Errorf("%q is not the ID of a git object", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%q is not the ID of a git object", s)
	}
	return id, nil
}

// Kind is what an object is, as packs number them.
type Kind uint8

// The kinds.
const (
	KindCommit Kind = 1
	KindTree   Kind = 2
	KindBlob   Kind = 3
)

func (k Kind) String() string {
	return map[Kind]string{KindCommit: "commit", KindTree: "tree", KindBlob: "blob"}[k]
}

// Object is one object.
type Object struct {
	ID   ID
	Kind Kind
	Data []byte
}

func newObject(k Kind, data []byte) Object {
	h := sha1.New()
	h.Write(header(k, len(data)))
	h.Write(data)
	return Object{ID: ID(h.Sum(nil)), Kind: k, Data: data}
}

// header is what stands before an object's content.
func header(k Kind, length int) []byte { return fmt.Appendf(nil, "%s %d\x00", k, length) }

// Commit is one change: the whole file as it is after it.
type Commit struct {
	Parent  ID // zero: the first
	Author  string
	Time    time.Time // to the second
	Message string
	File    string // name of the file; one that git cannot hold is replaced by [DefaultFile]
	Data    []byte
}

// DefaultFile stands for a file whose name is not known, or none for a repository.
const DefaultFile = "bulkhead.yaml"

// nobody is the author of a change whose author is not known.
const nobody = "unknown"

// committer made the commits of all authors.
const committer = "bulkhead"

// Objects returns the objects of a commit, the commit itself last.
func (c Commit) Objects() []Object {
	blob := newObject(KindBlob, c.Data)
	tree := newObject(KindTree, append([]byte("100644 "+fileName(c.File)+"\x00"), blob.ID[:]...))
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree.ID)
	if c.Parent != (ID{}) {
		fmt.Fprintf(&b, "parent %s\n", c.Parent)
	}
	// Nobody on a box has a mail address that is known to work.
	fmt.Fprintf(&b, "author %s <> %d +0000\n", person(c.Author), seconds(c.Time))
	fmt.Fprintf(&b, "committer %s <> %d +0000\n\n%s\n", committer, seconds(c.Time), message(c.Message))
	return []Object{blob, tree, newObject(KindCommit, []byte(b.String()))}
}

// ID returns the ID of the commit.
func (c Commit) ID() ID {
	objects := c.Objects()
	return objects[len(objects)-1].ID
}

// fileName returns the last element of a path if any system's git takes it: no names
// that git, HFS or NTFS give a meaning to.
func fileName(path string) string {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	plain := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.+", r))
	}
	if name == "" || len(name) > 100 || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") ||
		strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return DefaultFile
	}
	return name
}

// person is a name without what would end it in a commit, and without what git trims.
func person(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '<' || r == '>' || r == unicode.ReplacementChar || unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(name, " "))
	name = strings.Join(strings.Fields(name), " ")
	if name = strings.Trim(name, ` .,:;"'\`); name == "" {
		return nobody
	}
	return name
}

// message is text without what would end it early: NUL, and bytes that are not UTF-8.
func message(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Trim(s, "\n ")
}

// lastSecond is the end of the year 9999, which every git can show.
const lastSecond = 253402300799

func seconds(t time.Time) int64 { return min(max(t.Unix(), 0), lastSecond) }
