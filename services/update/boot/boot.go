// Package boot keeps the two slots of the boot partition: which of them the boot
// loader starts next, and what happens if that does not go well. The ways of a slot
// are in services/update/README.md.
//
// systemd-boot counts tries in the names of loader entries. Everything here comes down
// to overwriting files that keep their size and place, and to renaming an entry, which
// is one write of one sector: the 32 bytes that hold its long name. So it goes past the
// kernel's vfat, whose rename is two writes with both names in between, and which
// marks the boot sector when it is mounted. It allocates nothing, frees nothing, and
// never touches the slot that runs, except to bless it.
package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"bulkhead/services/update/fat"
)

// A Device is the boot partition. What is written is on it, in that order, after Sync;
// what is read was on it. A sector of 512 bytes is written whole or not at all.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Size() int64
}

// ErrState says that a slot is not in a state in which that can be done to it.
var ErrState = errors.New("not in this state")

// An ESP is the boot partition: EFI System Partition.
type ESP struct {
	dev Device
	vol *fat.Volume
}

// Open reads the boot partition on dev.
func Open(dev Device) (*ESP, error) {
	vol, err := fat.Open(dev, dev.Size())
	if err != nil {
		return nil, fmt.Errorf("boot partition: %w", err)
	}
	return &ESP{dev, vol}, nil
}

// Status is how a slot is.
type Status struct {
	State State
	Entry Entry // zero if the slot is disabled and its entry cannot be read
}

// place is where an entry's name and text are on the device.
type place struct {
	name int64 // the 32 bytes of its long name
	text int64
}

// Status returns a slot's state and entry. The error wraps [fs.ErrNotExist] if the
// slot has no entry at all, which nothing here can mend.
func (e *ESP) Status(slot Slot) (Status, error) {
	st, _, err := e.status(slot)
	return st, err
}

func (e *ESP) status(slot Slot) (Status, place, error) {
	var st Status
	var at place
	list, err := e.vol.ReadDir(EntriesDir)
	if err != nil {
		return st, at, fmt.Errorf("boot partition: %w", err)
	}
	for _, f := range list {
		s, state, ok := stateOf(f.Name)
		if !ok || s != slot {
			continue
		}
		if at.name != 0 {
			return st, at, fmt.Errorf("boot partition: slot %s has two loader entries, one of them is %s", slot, f.Name)
		}
		extents, err := e.vol.Extents(f)
		if err != nil {
			return st, at, fmt.Errorf("loader entry %s: %w", f.Name, err)
		}
		if f.Long == 0 || len(extents) != 1 || f.Size != EntryBytes {
			return st, at, fmt.Errorf("loader entry %s is not the builder's: %d bytes in %d pieces", f.Name, f.Size, len(extents))
		}
		st.State, at = state, place{f.Long, extents[0].Offset}
		text := make([]byte, EntryBytes)
		if _, err := e.dev.ReadAt(text, at.text); err != nil {
			return st, at, fmt.Errorf("read loader entry %s: %w", f.Name, err)
		}
		st.Entry, err = ParseEntry(text)
		if err == nil && st.Entry.Slot != slot {
			err = fmt.Errorf("it starts slot %s", st.Entry.Slot)
		}
		if err != nil && state != Disabled {
			return st, at, fmt.Errorf("loader entry %s: %w", f.Name, err)
		}
	}
	if at.name == 0 {
		return st, at, fmt.Errorf("loader entry of slot %s: %w", slot, fs.ErrNotExist)
	}
	return st, at, nil
}

// Disable takes a slot out of the boot loader's hands, so that it can be overwritten.
// It does so only while the other slot is good: there is always one to boot.
func (e *ESP) Disable(slot Slot) error {
	other, err := e.Status(slot.Other())
	if err != nil {
		return err
	}
	if other.State != Good {
		return fmt.Errorf("disable slot %s: slot %s is %s: %w", slot, slot.Other(), other.State, ErrState)
	}
	return e.rename(slot, Disabled, Good, Armed, Tried)
}

// SetEntry overwrites the entry of a disabled slot. The serial number is the next one,
// whatever entry says. It returns what is now there.
func (e *ESP) SetEntry(entry Entry) (Entry, error) {
	own, at, err := e.status(entry.Slot)
	if err != nil {
		return Entry{}, err
	}
	if own.State != Disabled {
		return Entry{}, fmt.Errorf("overwrite the entry of slot %s, which is %s: %w", entry.Slot, own.State, ErrState)
	}
	other, err := e.Status(entry.Slot.Other())
	if err != nil {
		return Entry{}, err
	}
	entry.Serial = max(own.Entry.Serial, other.Entry.Serial) + 1
	text, err := entry.Render()
	if err != nil {
		return Entry{}, err
	}
	if err := e.write(text, at.text); err != nil {
		return Entry{}, fmt.Errorf("write the entry of slot %s: %w", entry.Slot, err)
	}
	return entry, nil
}

// Arm makes the next boot try a disabled slot, once. Kernel, root and entry must be
// complete by then. It refuses a slot that would not be preferred.
func (e *ESP) Arm(slot Slot) error {
	own, err := e.Status(slot)
	if err != nil {
		return err
	}
	other, err := e.Status(slot.Other())
	if err != nil {
		return err
	}
	if own.Entry.Serial <= other.Entry.Serial {
		return fmt.Errorf("arm slot %s: its serial number is %d, and that of slot %s is %d: %w",
			slot, own.Entry.Serial, slot.Other(), other.Entry.Serial, ErrState)
	}
	return e.rename(slot, Armed, Disabled)
}

// MarkTried spends the one try of an armed slot. The boot loader has done so before it
// started the slot, unless the firmware could not write.
func (e *ESP) MarkTried(slot Slot) error { return e.rename(slot, Tried, Armed) }

// Bless makes a slot that was tried good, and thereby the default.
func (e *ESP) Bless(slot Slot) error { return e.rename(slot, Good, Tried, Armed) }

// rename moves a slot from one of some states to another. Twice is as good as once.
func (e *ESP) rename(slot Slot, to State, from ...State) error {
	st, at, err := e.status(slot)
	if err != nil || st.State == to {
		return err
	}
	allowed := false
	for _, s := range from {
		allowed = allowed || s == st.State
	}
	if !allowed {
		return fmt.Errorf("make slot %s %s: it is %s: %w", slot, to, st.State, ErrState)
	}
	name := make([]byte, 32)
	if _, err := e.dev.ReadAt(name, at.name); err != nil {
		return fmt.Errorf("read the name of slot %s: %w", slot, err)
	}
	if !fat.PutLong(name, EntryName(slot, to)) {
		return fmt.Errorf("name slot %s %s: there is no room", slot, EntryName(slot, to))
	}
	if err := e.write(name, at.name); err != nil {
		return fmt.Errorf("rename the entry of slot %s to %s: %w", slot, EntryName(slot, to), err)
	}
	if st, err = e.Status(slot); err == nil && st.State != to {
		err = fmt.Errorf("slot %s is %s after it was made %s", slot, st.State, to)
	}
	return err
}

// write writes p, which crosses no sector, so that it survives losing power, and reads
// it back.
func (e *ESP) write(p []byte, at int64) error {
	if _, err := e.dev.WriteAt(p, at); err != nil {
		return err
	}
	if err := e.dev.Sync(); err != nil {
		return err
	}
	back := make([]byte, len(p))
	if _, err := e.dev.ReadAt(back, at); err != nil {
		return err
	}
	if !bytes.Equal(back, p) {
		return errors.New("the disk does not hold what was written")
	}
	return nil
}

// A Kernel is the file of a slot's kernel: of fixed size, overwritten in place.
type Kernel struct {
	dev    Device
	pieces []fat.Extent
	size   int64
}

// Kernel returns the kernel file of a slot. Whoever writes to it has disabled the slot.
func (e *ESP) Kernel(slot Slot) (*Kernel, error) {
	f, err := e.vol.Lookup(slot.Kernel())
	if err != nil {
		return nil, fmt.Errorf("boot partition: %w", err)
	}
	pieces, err := e.vol.Extents(f)
	if err != nil {
		return nil, fmt.Errorf("boot partition: %s: %w", slot.Kernel(), err)
	}
	return &Kernel{e.dev, pieces, f.Size}, nil
}

// Size returns the size of the file in bytes, which is the room that a kernel has.
func (k *Kernel) Size() int64 { return k.size }

// Sync waits until all that was written survives losing power.
func (k *Kernel) Sync() error { return k.dev.Sync() }

// ReadAt implements [io.ReaderAt].
func (k *Kernel) ReadAt(p []byte, off int64) (int, error) {
	n, err := k.each(p, off, k.dev.ReadAt)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt implements [io.WriterAt].
func (k *Kernel) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > k.size {
		return 0, fmt.Errorf("%d bytes at %d do not fit into %d: %w", len(p), off, k.size, io.ErrShortWrite)
	}
	return k.each(p, off, k.dev.WriteAt)
}

func (k *Kernel) each(p []byte, off int64, do func([]byte, int64) (int, error)) (int, error) {
	done := 0
	for _, x := range k.pieces {
		if off >= x.Length {
			off -= x.Length
			continue
		}
		n, err := do(p[done:min(int64(len(p)), int64(done)+x.Length-off)], x.Offset+off)
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
		off = 0
	}
	return done, nil
}
