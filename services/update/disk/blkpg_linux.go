package disk

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/blkpg.h.
const (
	blkpgAdd    = 1
	blkpgResize = 3
)

type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [64 + 64 + 4]byte // names, not used by the kernel
}

type blkpgArg struct {
	op, flags, length int32
	data              unsafe.Pointer
}

// Announce tells the kernel of a partition that was added to the table of a disk, or
// has grown. Unlike reading the table again, that works while other partitions of
// the disk are in use.
func Announce(f *os.File, number int, p Partition) error {
	err := blkpg(f, blkpgAdd, number, p)
	if errors.Is(err, unix.EBUSY) { // there is one with this number, or here
		err = blkpg(f, blkpgResize, number, p)
	}
	if err != nil {
		return fmt.Errorf("tell the kernel of partition %d of %s: %w", number, f.Name(), err)
	}
	return nil
}

func blkpg(f *os.File, op int32, number int, p Partition) error {
	part := blkpgPartition{start: p.Start(), length: p.Bytes(), number: int32(number)}
	arg := blkpgArg{op: op, length: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}
