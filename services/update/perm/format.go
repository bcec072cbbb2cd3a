package perm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"bulkhead/services/update/disk"
)

// What tells a partition that is ours to write a file system to from one with
// somebody's data that was damaged is a mark in its first sector, which ext4 leaves
// to boot loaders. It is written before the partition appears in the table, or when a
// factory reset was asked for, and goes when the file system is whole. Without it,
// nothing is ever formatted.
//
//	mark, no superblock    writing the template has not begun, or was cut off: begin
//	mark, superblock       the template is written, since its superblock goes last
//	no mark, superblock    in use
//	no mark, neither       damaged, or never ours
const mark = "bulkhead: a file system belongs here, and nobody's data is lost by writing one\n"

// Where ext4 has its superblock, in bytes (Documentation/filesystems/ext4/super.rst).
const (
	superblockStart = 1024
	superblockBytes = 1024
	headBytes       = 4096 // the first block: the mark, the superblock, nothing else
)

// state is how the beginning of a partition looks.
type state struct {
	marked     bool
	superblock bool // there is a whole one, of ext4 with checksums
}

func inspect(r io.ReaderAt) (state, error) {
	head := make([]byte, headBytes)
	if _, err := r.ReadAt(head, 0); err != nil {
		return state{}, fmt.Errorf("read the partition for /perm: %w", err)
	}
	return state{
		marked:     bytes.HasPrefix(head, []byte(mark)),
		superblock: isSuperblock(head[superblockStart:][:superblockBytes]),
	}, nil
}

func isSuperblock(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != 0xef53 {
		return false
	}
	// The kernel leaves out CRC-32C's last step.
	sum := ^crc32.Checksum(b[:0x3fc], crc32.MakeTable(crc32.Castagnoli))
	return sum == le.Uint32(b[0x3fc:])
}

// setMark makes what is on the partition nobody's.
func setMark(dev disk.Device) error {
	sector := make([]byte, disk.SectorBytes)
	copy(sector, mark)
	// The mark first: between the two it is still known what there was.
	if err := writeSync(dev, sector, 0); err != nil {
		return err
	}
	return writeSync(dev, make([]byte, superblockBytes), superblockStart)
}

// format writes the template to a marked partition and takes the mark away.
func format(dev disk.Device, template io.Reader) error {
	head := make([]byte, headBytes)
	if _, err := io.ReadFull(template, head); err != nil {
		return fmt.Errorf("read the template of /perm: %w", err)
	}
	superblock := bytes.Clone(head[superblockStart:][:superblockBytes])
	if !isSuperblock(superblock) {
		return errors.New("the template of /perm has no ext4 superblock with a checksum")
	}
	clear(head[superblockStart:][:superblockBytes])
	if _, err := dev.WriteAt(head[disk.SectorBytes:], disk.SectorBytes); err != nil {
		return fmt.Errorf("write the template of /perm: %w", err)
	}
	buf := make([]byte, disk.MiB)
	for at := int64(headBytes); ; {
		n, err := io.ReadFull(template, buf)
		if _, err := dev.WriteAt(buf[:n], at); err != nil {
			return fmt.Errorf("write the template of /perm: %w", err)
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the template of /perm: %w", err)
		}
	}
	if err := dev.Sync(); err != nil {
		return fmt.Errorf("write the template of /perm: %w", err)
	}
	if err := writeSync(dev, superblock, superblockStart); err != nil {
		return err
	}
	return clearMark(dev)
}

func clearMark(dev disk.Device) error { return writeSync(dev, make([]byte, disk.SectorBytes), 0) }

func writeSync(dev disk.Device, data []byte, at int64) error {
	_, err := dev.WriteAt(data, at)
	if err == nil {
		err = dev.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the beginning of /perm: %w", err)
	}
	return nil
}
