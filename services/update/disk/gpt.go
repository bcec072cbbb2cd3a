// Package disk knows the box's disk: its partition table (GPT, UEFI 2.10 chapter 5,
// with sectors of 512 bytes), where the product's partitions lie on it, which disk
// the running system was started from, and how the table is replaced so that losing
// power at any instant leaves one that the kernel accepts.
//
// It never looks into a partition.
package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// SectorBytes is the only size of logical sectors that is known here. Disks that
// have others are refused by whoever opens them.
const SectorBytes = 512

const (
	headerBytes  = 92
	entryBytes   = 128
	entryCount   = 128
	arrayBytes   = entryBytes * entryCount
	arraySectors = arrayBytes / SectorBytes

	primaryLBA = 1
	// The array of entries is in one of two places, so that a new one can be
	// written while the old one counts.
	firstArrayLBA  = 2
	secondArrayLBA = firstArrayLBA + arraySectors
	firstUsableLBA = secondArrayLBA + arraySectors
)

var signature = []byte("EFI PART")

// Partition is an entry of a table. The zero value is an entry that is not in use.
type Partition struct {
	Type, ID    GUID
	First, Last uint64 // sectors; Last is the last one of the partition
	Attributes  uint64
	Name        string // at most 36 UTF-16 units
}

// Start returns where the partition begins, in bytes.
func (p Partition) Start() int64 { return int64(p.First) * SectorBytes }

// Bytes returns the partition's size.
func (p Partition) Bytes() int64 {
	if p == (Partition{}) {
		return 0
	}
	return int64(p.Last-p.First+1) * SectorBytes
}

// Table is a partition table.
type Table struct {
	ID GUID
	// Sectors is the size of the disk that the table was made for. The disk may be
	// larger by now.
	Sectors uint64
	// Partitions has the partition of number 1 first. Those behind its end are not
	// in use.
	Partitions []Partition

	array uint64 // where the primary's entries are
}

// Partition returns the partition with a number from 1 on, or the zero value.
func (t *Table) Partition(n int) Partition {
	if n < 1 || n > len(t.Partitions) {
		return Partition{}
	}
	return t.Partitions[n-1]
}

// lastUsable is the last sector that partitions may have: behind it are the second
// array and header.
func (t *Table) lastUsable() uint64 { return t.Sectors - 1 - arraySectors - 1 }

// check reports what would make the table unusable.
func (t *Table) check() error {
	if t.Sectors < firstUsableLBA+arraySectors+2 {
		return fmt.Errorf("a disk of %d sectors has no room for a partition table", t.Sectors)
	}
	if len(t.Partitions) > entryCount {
		return fmt.Errorf("%d partitions are more than %d", len(t.Partitions), entryCount)
	}
	for i, p := range t.Partitions {
		if p == (Partition{}) {
			continue
		}
		if p.Type == (GUID{}) || p.First < firstUsableLBA || p.Last < p.First || p.Last > t.lastUsable() {
			return fmt.Errorf("partition %d does not fit on the disk: sectors %d to %d, usable are %d to %d",
				i+1, p.First, p.Last, firstUsableLBA, t.lastUsable())
		}
		if len(utf16.Encode([]rune(p.Name))) > 36 {
			return fmt.Errorf("partition %d: name %q is too long", i+1, p.Name)
		}
		for j, q := range t.Partitions[:i] {
			if q != (Partition{}) && p.First <= q.Last && q.First <= p.Last {
				return fmt.Errorf("partitions %d and %d overlap", j+1, i+1)
			}
		}
	}
	return nil
}

// Read returns the table of a disk of the given size as the kernel reads it: the
// primary one, or an error. The kernel looks at the second one only if it is told to
// on its command line, so it is no help here either.
func Read(r io.ReaderAt, sectors uint64) (*Table, error) {
	mbr, err := readSector(r, 0)
	if err != nil {
		return nil, err
	}
	if !protective(mbr) {
		return nil, errors.New("no protective MBR, so no GPT")
	}
	return readAt(r, primaryLBA, sectors)
}

func readSector(r io.ReaderAt, lba uint64) ([]byte, error) {
	b := make([]byte, SectorBytes)
	if _, err := r.ReadAt(b, int64(lba)*SectorBytes); err != nil {
		return nil, fmt.Errorf("read sector %d: %w", lba, err)
	}
	return b, nil
}

// readAt reads the table whose header is in sector lba.
func readAt(r io.ReaderAt, lba, sectors uint64) (*Table, error) {
	h, err := readSector(r, lba)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(h, signature) {
		return nil, fmt.Errorf("no GPT header in sector %d", lba)
	}
	le := binary.LittleEndian
	size := le.Uint32(h[12:])
	if size < headerBytes || size > SectorBytes {
		return nil, fmt.Errorf("GPT header in sector %d: length %d", lba, size)
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, fmt.Errorf("GPT header in sector %d: wrong checksum", lba)
	}
	if own := le.Uint64(h[24:]); own != lba {
		return nil, fmt.Errorf("GPT header in sector %d says that it belongs in sector %d", lba, own)
	}
	alternate, first, last := le.Uint64(h[32:]), le.Uint64(h[40:]), le.Uint64(h[48:])
	if first > last || last >= sectors {
		return nil, fmt.Errorf("GPT header in sector %d: usable are sectors %d to %d, the disk has %d", lba, first, last, sectors)
	}
	array, count, width := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if width != entryBytes || count > entryCount || array >= sectors {
		return nil, fmt.Errorf("GPT header in sector %d: %d entries of %d bytes in sector %d", lba, count, width, array)
	}
	entries := make([]byte, count*width)
	if _, err := r.ReadAt(entries, int64(array)*SectorBytes); err != nil {
		return nil, fmt.Errorf("read partition entries: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("partition entries in sector %d: wrong checksum", array)
	}
	t := &Table{ID: GUID(h[56:72]).swap(), Sectors: max(alternate, lba) + 1, array: array}
	for e := range len(entries) / entryBytes {
		p, err := parseEntry(entries[e*entryBytes:][:entryBytes])
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", e+1, err)
		}
		if p != (Partition{}) {
			t.Partitions = append(t.Partitions, make([]Partition, e-len(t.Partitions)+1)...)
			t.Partitions[e] = p
		}
	}
	return t, nil
}

func parseEntry(b []byte) (Partition, error) {
	le := binary.LittleEndian
	p := Partition{
		Type: GUID(b[0:16]).swap(), ID: GUID(b[16:32]).swap(),
		First: le.Uint64(b[32:]), Last: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]),
	}
	if p.Type == (GUID{}) {
		return Partition{}, nil
	}
	const most = 1 << 54 // sectors whose number of bytes an int64 holds
	if p.First > p.Last || p.Last >= most {
		return Partition{}, fmt.Errorf("from sector %d to %d", p.First, p.Last)
	}
	var name []uint16
	for c := range 36 {
		u := le.Uint16(b[56+2*c:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	p.Name = string(utf16.Decode(name))
	return p, nil
}

func (t *Table) encodeArray() []byte {
	b := make([]byte, arrayBytes)
	le := binary.LittleEndian
	for i, p := range t.Partitions {
		if p == (Partition{}) {
			continue
		}
		e := b[i*entryBytes:][:entryBytes]
		kind, id := p.Type.swap(), p.ID.swap()
		copy(e, kind[:])
		copy(e[16:], id[:])
		le.PutUint64(e[32:], p.First)
		le.PutUint64(e[40:], p.Last)
		le.PutUint64(e[48:], p.Attributes)
		for c, u := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*c:], u)
		}
	}
	return b
}

// encodeHeader returns the sector of a header that is in sector own, whose entries
// are in sector array.
func (t *Table) encodeHeader(own, other, array uint64, entries []byte) []byte {
	h := make([]byte, SectorBytes)
	le := binary.LittleEndian
	copy(h, signature)
	le.PutUint32(h[8:], 0x00010000) // revision 1.0
	le.PutUint32(h[12:], headerBytes)
	le.PutUint64(h[24:], own)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], firstUsableLBA)
	le.PutUint64(h[48:], t.lastUsable())
	id := t.ID.swap()
	copy(h[56:], id[:])
	le.PutUint64(h[72:], array)
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entryBytes)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerBytes]))
	return h
}

// ProtectiveMBR returns the first sector of a disk: it tells programs that do not
// know GPT that all of the disk is taken. It names no size, so that it stays true
// when the image lands on a larger disk.
func ProtectiveMBR() []byte {
	b := make([]byte, SectorBytes)
	e := b[446:]
	e[2] = 2                         // from cylinder 0, head 0, sector 2
	e[4] = 0xee                      // GPT
	copy(e[5:], "\xff\xff\xff")      // to where cylinders cannot say
	copy(e[8:], "\x01\x00\x00\x00")  // sector 1
	copy(e[12:], "\xff\xff\xff\xff") // "too many to say"
	copy(b[510:], "\x55\xaa")
	return b
}

// protective reports whether the kernel would look for a GPT behind this MBR.
func protective(mbr []byte) bool {
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return false
	}
	for i := range 4 {
		if e := mbr[446+16*i:]; e[4] == 0xee && binary.LittleEndian.Uint32(e[8:]) == primaryLBA {
			return true
		}
	}
	return false
}
