// Package fat reads FAT16 and FAT32 file systems, as they stand in boot partitions
// and in the boot images of gokrazy archives. It finds files and where on the volume
// they lie. It never writes, and takes no input for what it should be: whatever the
// bytes say, reading ends, within bounds.
//
// Source: Microsoft's FAT32 File System Specification, version 1.03 (fatgen103).
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrFormat says that this is no FAT file system that this package reads, or one
// that is damaged.
var ErrFormat = errors.New("not a sound FAT16 or FAT32 file system")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Where FAT16 ends and FAT32 begins is decided by the number of clusters alone.
const (
	minClusters16 = 4085
	minClusters32 = 65525
)

// A Volume is a file system. Its methods read what is on the device when they are
// called and remember nothing.
type Volume struct {
	r       io.ReaderAt
	wide    bool   // FAT32
	cluster int64  // bytes
	fat     int64  // offset of the first file allocation table
	data    int64  // offset of cluster 2
	count   uint32 // of clusters
	root    extentSource
}

// Open reads the boot sector of the volume of size bytes in r.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	var b [512]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("read the boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector := int64(le.Uint16(b[11:]))
	perCluster := int64(b[13])
	reserved := int64(le.Uint16(b[14:]))
	tables := int64(b[16])
	rootEntries := int64(le.Uint16(b[17:]))
	sectors := int64(le.Uint16(b[19:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	perTable := int64(le.Uint16(b[22:]))
	if perTable == 0 {
		perTable = int64(le.Uint32(b[36:]))
	}
	powerOfTwo := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, damaged("no boot sector")
	case !powerOfTwo(sector) || sector < 512 || sector > 4096:
		return nil, damaged("sectors of %d bytes", sector)
	case !powerOfTwo(perCluster) || perCluster > 128:
		return nil, damaged("clusters of %d sectors", perCluster)
	case reserved == 0 || tables == 0 || tables > 4 || perTable == 0:
		return nil, damaged("%d reserved sectors, %d tables of %d sectors", reserved, tables, perTable)
	case sectors*sector > size:
		return nil, damaged("%d bytes, of which %d are there", sectors*sector, size)
	}
	rootSectors := (rootEntries*entryBytes + sector - 1) / sector
	first := reserved + tables*perTable + rootSectors
	clusters := (sectors - first) / perCluster
	if clusters < minClusters16 || clusters > 1<<28 {
		return nil, damaged("%d clusters", clusters)
	}
	v := &Volume{
		r: r, wide: clusters >= minClusters32, cluster: perCluster * sector, count: uint32(clusters),
		fat: reserved * sector, data: first * sector,
	}
	if need := (clusters + 2) * v.width(); perTable*sector < need {
		return nil, damaged("a table of %d bytes for %d clusters", perTable*sector, clusters)
	}
	if v.wide {
		v.root = chain{v, le.Uint32(b[44:]) & maxCluster}
	} else {
		v.root = fixed{{v.data - rootSectors*sector, rootEntries * entryBytes}}
	}
	return v, nil
}

// maxCluster masks the bits of a FAT32 entry that count.
const maxCluster = 1<<28 - 1

// width is the size of an entry of the file allocation table, in bytes.
func (v *Volume) width() int64 {
	if v.wide {
		return 4
	}
	return 2
}

// next returns the cluster that follows n, and whether one does.
func (v *Volume) next(n uint32) (uint32, bool, error) {
	var b [4]byte
	if _, err := v.r.ReadAt(b[:v.width()], v.fat+int64(n)*v.width()); err != nil {
		return 0, false, fmt.Errorf("read the file allocation table: %w", err)
	}
	c, end := binary.LittleEndian.Uint32(b[:])&maxCluster, uint32(maxCluster&^7)
	if !v.wide {
		c, end = uint32(binary.LittleEndian.Uint16(b[:])), 0xfff8
	}
	return c, c < end, nil
}

// An Extent is a piece of a file that lies in one piece on the volume.
type Extent struct{ Offset, Length int64 } // bytes

// extentSource tells where the bytes of a file or directory lie.
type extentSource interface {
	// extents returns the pieces that cover the first size bytes; of a directory,
	// whose size is not known, all there are up to that.
	extents(size int64, whole bool) ([]Extent, error)
}

// fixed is the root directory of FAT16.
type fixed []Extent

func (f fixed) extents(int64, bool) ([]Extent, error) { return f, nil }

// chain is a file or directory by its first cluster.
type chain struct {
	v     *Volume
	first uint32
}

func (c chain) extents(size int64, whole bool) ([]Extent, error) {
	if whole && size > int64(c.v.count)*c.v.cluster {
		return nil, damaged("a file of %d bytes", size) // before a chain that goes round is followed for long
	}
	var list []Extent
	left := size
	for n, more := c.first, true; left > 0; {
		if !more {
			if whole {
				return nil, damaged("a chain of clusters is %d bytes short of its file", left)
			}
			return list, nil
		}
		if n < 2 || n-2 >= c.v.count {
			return nil, damaged("cluster %d of %d", n, c.v.count)
		}
		offset, length := c.v.data+int64(n-2)*c.v.cluster, min(left, c.v.cluster)
		if k := len(list); k > 0 && list[k-1].Offset+list[k-1].Length == offset {
			list[k-1].Length += length
		} else {
			list = append(list, Extent{offset, length})
		}
		left -= length
		var err error
		if n, more, err = c.v.next(n); err != nil {
			return nil, err
		}
	}
	return list, nil
}
