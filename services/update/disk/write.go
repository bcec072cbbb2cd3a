package disk

import (
	"bytes"
	"fmt"
	"io"
)

// Device is a disk, a partition, or a file that stands for one.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Create writes a table to a disk that has none that counts.
func Create(dev Device, t *Table) error {
	if err := t.check(); err != nil {
		return err
	}
	if err := writeAll(dev, write{0, ProtectiveMBR()}); err != nil {
		return err
	}
	return t.replace(dev, secondArrayLBA)
}

// Write makes t the table of a disk that has one. At every instant the kernel reads
// the old table or the new one, if the disk writes single sectors whole and does not
// touch others: the header of the old one stays until the new entries and the second
// copy are on the disk, and neither is in the way of the old entries. It writes
// nothing if all is as it should be.
func Write(dev Device, t *Table) error {
	if err := t.check(); err != nil {
		return err
	}
	old, err := Read(dev, t.Sectors)
	if err != nil {
		return fmt.Errorf("replace the partition table: %w", err)
	}
	if t.written(dev, old.array) {
		return nil
	}
	return t.replace(dev, old.array)
}

// written reports whether the disk has the table already, both copies of it, with
// the entries of the first in sector array.
func (t *Table) written(dev io.ReaderAt, array uint64) bool {
	if array != firstArrayLBA && array != secondArrayLBA {
		return false
	}
	for _, w := range t.writes(array) {
		have := make([]byte, len(w.data))
		if _, err := dev.ReadAt(have, int64(w.lba)*SectorBytes); err != nil || !bytes.Equal(have, w.data) {
			return false
		}
	}
	return true
}

type write struct {
	lba  uint64
	data []byte
}

// writes returns what makes up the table, in the order in which it has to be written.
func (t *Table) writes(array uint64) [4]write {
	entries := t.encodeArray()
	last := t.Sectors - 1
	return [4]write{
		{array, entries},
		{last - arraySectors, entries},
		{last, t.encodeHeader(last, primaryLBA, last-arraySectors, entries)},
		{primaryLBA, t.encodeHeader(primaryLBA, last, array, entries)},
	}
}

// replace writes the table, leaving alone the entries in sector inUse.
func (t *Table) replace(dev Device, inUse uint64) error {
	array := uint64(firstArrayLBA)
	if inUse == firstArrayLBA {
		array = secondArrayLBA
	}
	w := t.writes(array)
	if err := writeAll(dev, w[:3]...); err != nil {
		return err
	}
	if err := writeAll(dev, w[3]); err != nil {
		return err
	}
	t.array = array
	return nil
}

// writeAll writes and waits until all of it is on the disk.
func writeAll(dev Device, list ...write) error {
	for _, w := range list {
		if _, err := dev.WriteAt(w.data, int64(w.lba)*SectorBytes); err != nil {
			return fmt.Errorf("write partition table, sector %d: %w", w.lba, err)
		}
	}
	if err := dev.Sync(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return nil
}
