// Package journal keeps leases on a disk so that losing power at any instant loses
// none that a client was told of.
//
// A journal is one file: a record for each change, appended, and now and then
// replaced as a whole by one record for each lease. The package does not know which
// leases are in force, and it never sends or decides anything: its callers wait for
// [File.Append] before they answer a client.
//
// Beside it is the history, as of some time before the journal was last replaced: with
// what the journal says since, it is complete, and takes no write of its own.
package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"bulkhead/services/dhcp/lease"
)

// Names of files in the journal's directory.
const (
	name        = "leases"
	damagedName = "leases.damaged" // the latest damaged journal, for a person to look at
	pastName    = "history"
)

// maxSize bounds what is read of a journal, in bytes: some fifty times what
// replacing lets it grow to.
const maxSize = 1 << 30

// Damage says what [Load] could not read.
type Damage struct {
	// Tail is the number of bytes at the end that are no record: a write that was
	// under way when the power went. Nobody was told of what was in it.
	Tail int
	// Middle is the number of bytes before the last good record that are none: the
	// disk has lost something that clients may have been told of. The whole file is
	// kept as leases.damaged.
	Middle int
}

// Load reads the journal in dir and returns the last record of each address, in the
// order of their Until. There is no error if there is no journal yet. each is called for
// every record, the oldest first, unless it is nil.
//
// The records' times are as the clock read when they were written; see
// [lease.Lease.Rebase].
func Load(dir string, each func(lease.Lease)) ([]lease.Lease, Damage, error) {
	if err := sweep(dir); err != nil {
		return nil, Damage{}, err
	}
	data, err := read(filepath.Join(dir, name), maxSize)
	if err != nil {
		return nil, Damage{}, err
	}
	last := make(map[netip.Addr]lease.Lease)
	damage := scan(data, magic, readLease, func(l lease.Lease) {
		last[l.Addr] = l
		if each != nil {
			each(l)
		}
	})
	if damage.Middle > 0 {
		if err := keepAside(dir); err != nil {
			return nil, damage, err
		}
	}
	return slices.SortedFunc(values(last), func(a, b lease.Lease) int {
		return a.Until.Compare(b.Until)
	}), damage, nil
}

func values(m map[netip.Addr]lease.Lease) func(func(lease.Lease) bool) {
	return func(yield func(lease.Lease) bool) {
		for _, l := range m {
			if !yield(l) {
				return
			}
		}
	}
}

// read returns what is in a file, of limit bytes at most; nothing if there is none.
func read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// scan calls each with every good record in a file, as decode reads its payload.
func scan[T any](data []byte, magic string, decode func([]byte) (T, bool), each func(T)) (damage Damage) {
	rest, whole := bytes.CutPrefix(data, []byte(magic))
	if !whole && len(data) < len(magic) {
		return Damage{Tail: len(data)}
	}
	for bad := 0; len(rest) > 0; {
		payload, n, ok := record(rest)
		var v T
		if ok {
			v, ok = decode(payload)
		}
		if !ok {
			// Look for the next mark. A false one in a client's bytes has no checksum.
			skip := bytes.Index(rest[1:], []byte{mark >> 8, mark & 0xff}) + 1
			if skip == 0 {
				skip = len(rest)
			}
			bad += skip
			rest = rest[skip:]
			damage.Tail = bad
			continue
		}
		each(v)
		rest = rest[n:]
		damage.Middle += bad
		bad, damage.Tail = 0, 0
	}
	return damage
}

// keepAside gives the damaged journal a second name, under which it stays when the
// first is replaced.
func keepAside(dir string) error {
	aside := filepath.Join(dir, damagedName)
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(filepath.Join(dir, name), aside)
}

// sweep removes what replacements left behind that were cut off by a crash.
func sweep(dir string) error {
	left, err1 := filepath.Glob(filepath.Join(dir, "."+name+"*"))
	more, err2 := filepath.Glob(filepath.Join(dir, "."+pastName+"*"))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, path := range append(left, more...) {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// File is a journal open for writing. It is not safe for concurrent use.
type File struct {
	dir  string
	f    *os.File // nil before the first Replace
	size int64
}

// New returns the journal in dir for writing. Nothing is written before the first
// [File.Replace], which must come before the first [File.Append].
func New(dir string) *File { return &File{dir: dir} }

// Size returns the length of the journal, in bytes.
func (f *File) Size() int64 { return f.size }

// Append adds records to the journal. They are on the disk when it returns nil.
// After an error nobody knows what is: only [File.Replace] helps then.
func (f *File) Append(records []byte) error {
	if f.f == nil {
		return fmt.Errorf("append to %s: not open", filepath.Join(f.dir, name))
	}
	n, err := f.f.Write(records)
	f.size += int64(n)
	if err == nil {
		err = unix.Fdatasync(int(f.f.Fd()))
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("append to %s: %w", filepath.Join(f.dir, name), err)
	}
	return nil
}

// Replace makes records the whole of the journal. When it returns nil they are on
// the disk; after an error the disk has either them or the journal as it was.
func (f *File) Replace(records []byte) error {
	path := filepath.Join(f.dir, name)
	f.Close()
	if err := f.replace(path, records); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

func (f *File) replace(path string, records []byte) error {
	if err := replace(path, magic, records); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	f.f, f.size = out, int64(len(magic)+len(records))
	return nil
}

// replace writes a file anew. It is on the disk when there is no error.
func replace(path, magic string, records []byte) error {
	// In the same directory, or it might be another file system.
	dir := filepath.Dir(path)
	p, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer p.Cleanup()
	if _, err := p.WriteString(magic); err != nil {
		return err
	}
	if _, err := p.Write(records); err != nil {
		return err
	}
	if err := p.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close closes the journal. It can be opened again by [File.Replace].
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
