package store

import (
	"encoding/binary"
	"hash/crc32"
)

// What tests cut the power at, and what it is made of.
type (
	Disk   = disk
	Entry  = entry
	Reader = reader
	Writer = writer
)

// NewEntry makes a directory's entry.
func NewEntry(name string, size int64, dir bool) Entry { return entry{name, size, dir} }

// OpenOn opens a store on a disk, with segments of few rows.
func OpenOn(d Disk, o Options, rows int) (*Store, error) { return open(d, o, rows) }

// Sync does what Run does every five seconds.
func (s *Store) Sync() error { return s.sync() }

// Spill does what Run does when a generation is full.
func (s *Store) Spill() error { return s.spill() }

// Directory is a real disk.
func Directory(path string) Disk { return directory{path} }

// ReadWAL decodes a write-ahead file, and returns how many rows it has.
func ReadWAL(data []byte) (rows int, err error) {
	_, err = readWAL(data, func(row) { rows++ })
	return rows, err
}

// MaxRows is how many rows a generation has.
const MaxRows = maxRows

// Checksummed is a write-ahead file whose only batch is data.
func Checksummed(data []byte) []byte {
	out := binary.AppendUvarint([]byte(walMagic), uint64(len(data)))
	return append(binary.BigEndian.AppendUint32(out, crc32.Checksum(data, castagnoli)), data...)
}
