package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// Directory entries.
const (
	entryBytes = 32

	attrVolume    = 0x08
	attrDirectory = 0x10
	attrLong      = 0x0f
	attrMask      = 0x3f

	free      = 0xe5
	lastLong  = 0x40
	lowerBase = 0x08 // Windows NT: the name is in lower case
	lowerExt  = 0x10
)

// maxDir bounds a directory, in bytes: the specification's 65,536 entries.
const maxDir = 65536 * entryBytes

// An Entry is a file or directory in a directory.
type Entry struct {
	Name string // the long name, if it has one
	Dir  bool
	Size int64 // bytes; 0 for a directory

	// Long is where on the volume the entry's long name lies if one 32-byte entry
	// holds all of it, that is, up to 13 characters; otherwise 0.
	Long int64

	at extentSource
}

// Lookup finds a file or directory by its path, with or without a leading slash.
// Case does not count. The error wraps [fs.ErrNotExist] if there is none.
func (v *Volume) Lookup(path string) (Entry, error) {
	e := Entry{Dir: true, at: v.root}
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		list, err := v.list(e)
		if err != nil {
			return Entry{}, err
		}
		found := false
		for _, c := range list {
			if strings.EqualFold(c.Name, name) {
				e, found = c, true
				break
			}
		}
		if !found {
			return Entry{}, &fs.PathError{Op: "find", Path: path, Err: fs.ErrNotExist}
		}
	}
	return e, nil
}

// ReadDir lists the directory at path, without the entries for itself and its parent.
func (v *Volume) ReadDir(path string) ([]Entry, error) {
	e, err := v.Lookup(path)
	if err != nil {
		return nil, err
	}
	return v.list(e)
}

// Extents returns where on the volume a file's bytes lie, in their order.
func (v *Volume) Extents(e Entry) ([]Extent, error) {
	if e.Dir {
		return nil, fmt.Errorf("%s is a directory", e.Name)
	}
	return e.at.extents(e.Size, true)
}

// ReadFile returns the content of the file at path, at most limit bytes.
func (v *Volume) ReadFile(path string, limit int64) ([]byte, error) {
	r, size, err := v.File(path)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", path, size, limit)
	}
	return io.ReadAll(r)
}

// File returns a reader of the file at path, and the file's size in bytes.
func (v *Volume) File(path string) (io.Reader, int64, error) {
	e, err := v.Lookup(path)
	if err != nil {
		return nil, 0, err
	}
	list, err := v.Extents(e)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return v.reader(list), e.Size, nil
}

func (v *Volume) reader(list []Extent) io.Reader {
	parts := make([]io.Reader, len(list))
	for i, x := range list {
		parts[i] = io.NewSectionReader(v.r, x.Offset, x.Length)
	}
	return io.MultiReader(parts...)
}

func (v *Volume) list(dir Entry) ([]Entry, error) {
	if !dir.Dir {
		return nil, fmt.Errorf("%s: %w: not a directory", dir.Name, fs.ErrNotExist)
	}
	pieces, err := dir.at.extents(maxDir, false)
	if err != nil {
		return nil, err
	}
	var list []Entry
	var name longName
	for _, piece := range pieces {
		data := make([]byte, piece.Length)
		if _, err := v.r.ReadAt(data, piece.Offset); err != nil {
			return nil, fmt.Errorf("read a directory: %w", err)
		}
		for at := 0; at+entryBytes <= len(data); at += entryBytes {
			b := data[at : at+entryBytes]
			switch {
			case b[0] == 0: // nothing follows
				return list, nil
			case b[0] == free:
				name = longName{}
			case b[11]&attrMask == attrLong:
				name.add(b, piece.Offset+int64(at))
			case b[11]&attrVolume != 0 || b[0] == '.':
				name = longName{}
			default:
				list = append(list, v.entry(b, &name))
				name = longName{}
			}
		}
	}
	return list, nil
}

func (v *Volume) entry(b []byte, long *longName) Entry {
	first := uint32(binary.LittleEndian.Uint16(b[26:]))
	if v.wide {
		first |= uint32(binary.LittleEndian.Uint16(b[20:])) << 16
	}
	e := Entry{Name: shortName(b), at: chain{v, first}}
	if name, ok := long.of(b[:11]); ok {
		e.Name = name
		if len(long.parts) == 1 {
			e.Long = long.at
		}
	}
	if b[11]&attrDirectory != 0 {
		e.Dir = true
	} else {
		e.Size = int64(binary.LittleEndian.Uint32(b[28:]))
	}
	return e
}

func shortName(b []byte) string {
	base, ext := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
	if b[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if b[12]&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// longName collects the entries that stand in front of a short one, last part first.
type longName struct {
	parts [][]uint16
	next  byte // the number that the next part must have
	sum   byte
	at    int64 // of the last part that came
}

// charsAt are where in a long entry its characters are.
var charsAt = [...]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

func (n *longName) add(b []byte, at int64) {
	number := b[0] &^ lastLong
	switch {
	case b[0]&lastLong != 0 && number >= 1 && number <= 20:
		*n = longName{sum: b[13]}
	case n.parts == nil || number != n.next || b[13] != n.sum:
		*n = longName{}
		return
	}
	chars := make([]uint16, 0, len(charsAt))
	for _, i := range charsAt {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		chars = append(chars, c)
	}
	n.parts, n.next, n.at = append(n.parts, chars), number-1, at
}

// of returns the long name that belongs to a short one.
func (n *longName) of(short []byte) (string, bool) {
	if n.parts == nil || n.next != 0 || n.sum != Checksum(short) {
		return "", false
	}
	var chars []uint16
	for i := len(n.parts) - 1; i >= 0; i-- {
		chars = append(chars, n.parts[i]...)
	}
	return string(utf16.Decode(chars)), true
}

// Checksum is what ties a long name to the 11 bytes of its short one.
func Checksum(short []byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// PutLong writes name into the 32-byte long entry b, which is the only one of its
// file. The short name stays what it was, and with it the checksum. It reports
// whether name fits, and b is such an entry.
func PutLong(b []byte, name string) bool {
	chars := utf16.Encode([]rune(name))
	if len(b) != entryBytes || b[0] != lastLong|1 || b[11]&attrMask != attrLong || len(chars) > len(charsAt) || name == "" {
		return false
	}
	for i, at := range charsAt {
		c := uint16(0xffff) // behind the end
		switch {
		case i < len(chars):
			c = chars[i]
		case i == len(chars):
			c = 0
		}
		binary.LittleEndian.PutUint16(b[at:], c)
	}
	return true
}
