// Package oui names the makers of network cards: who the IEEE has given a MAC's first
// bits to. The list is a file that the image's builder makes out of Debian's ieee-data;
// it is searched where it lies, and never held in memory.
package oui

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"bulkhead/netcfg/model"
)

// Path is where the list is in an image that has one.
const Path = "/usr/share/bulkhead/oui.bin"

// The file is the magic string, the number of entries (4 bytes, big endian), the entries
// in the order of their first 6 bytes, and the names that they refer to, each a byte of
// length and so many bytes. An entry is
//
//	5  the first bits of the MAC, the rest 0
//	1  how many bits: 24, 28 or 36
//	4  where the name is, from the beginning of the names
const (
	magic     = "bhoui1\n\x00"
	headLen   = len(magic) + 4
	entryLen  = 10
	maxEntry  = 1 << 20
	maxName   = 64 // bytes
	prefixLen = 5
)

// assigned are the lengths, in bits, of what is assigned, the longest first: who has a
// long one has it out of a block that is the registry's own.
var assigned = []byte{36, 28, 24}

// List is a list of makers.
type List struct {
	r     io.ReaderAt
	n     int   // entries
	names int64 // where they begin
	close func() error
}

// Open opens the list in a file. The error wraps [io/fs.ErrNotExist] without one.
func Open(path string) (*List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := New(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.close = f.Close
	return l, nil
}

// New returns the list that r has.
func New(r io.ReaderAt) (*List, error) {
	var head [headLen]byte
	if _, err := r.ReadAt(head[:], 0); err != nil || !bytes.HasPrefix(head[:], []byte(magic)) {
		return nil, errors.New("no list of makers")
	}
	n := binary.BigEndian.Uint32(head[len(magic):])
	if n > maxEntry {
		return nil, fmt.Errorf("list of %d makers", n)
	}
	return &List{r: r, n: int(n), names: int64(headLen) + int64(n)*entryLen}, nil
}

// Close closes the file of a list that was opened.
func (l *List) Close() error {
	if l == nil || l.close == nil {
		return nil
	}
	return l.close()
}

// Vendor returns who makes cards with a MAC, "" if the list does not say or is damaged. A
// nil list says nothing.
func (l *List) Vendor(mac model.MAC) string {
	if l == nil {
		return ""
	}
	for _, bits := range assigned {
		if at, ok := l.find(key(mac, bits)); ok {
			return l.name(at)
		}
	}
	return ""
}

// key is the beginning of the entry for a MAC's first bits.
func key(mac model.MAC, bits byte) [prefixLen + 1]byte {
	var k [prefixLen + 1]byte
	copy(k[:], mac[:prefixLen])
	for i := range prefixLen {
		keep := min(max(int(bits)-8*i, 0), 8)
		k[i] &= ^byte(0) << (8 - keep)
	}
	k[prefixLen] = bits
	return k
}

// find looks for an entry by halving.
func (l *List) find(want [prefixLen + 1]byte) (name uint32, ok bool) {
	low, high := 0, l.n
	var e [entryLen]byte
	for low < high {
		mid := (low + high) / 2
		if _, err := l.r.ReadAt(e[:], int64(headLen)+int64(mid)*entryLen); err != nil {
			return 0, false
		}
		switch c := bytes.Compare(e[:len(want)], want[:]); {
		case c == 0:
			return binary.BigEndian.Uint32(e[len(want):]), true
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return 0, false
}

func (l *List) name(at uint32) string {
	var b [1 + maxName]byte
	n, err := l.r.ReadAt(b[:], l.names+int64(at))
	if err != nil && !errors.Is(err, io.EOF) || n == 0 || int(b[0]) > n-1 || b[0] > maxName {
		return ""
	}
	return string(b[1 : 1+b[0]])
}
