package disk

import "fmt"

// The numbers of the product's partitions.
const (
	ESP   = 1 // FAT32 with boot loader, kernels and loader entries
	RootA = 2 // squashfs
	RootB = 3 // squashfs
	Perm  = 4 // ext4: all that the box keeps; made by itself at its first start
)

// Sizes of partitions. Partitions begin at multiples of a MiB.
const (
	MiB       = 1 << 20
	ESPBytes  = 128 * MiB
	RootBytes = 256 * MiB
	// PermBytes is the least that is left for /perm.
	PermBytes = 64 * MiB
)

// ImageBytes is the size of a disk image: it ends behind root B with the second copy
// of the partition table.
const ImageBytes = MiB + ESPBytes + 2*RootBytes + MiB

// DiskBytes is the size of the smallest disk that an image can be used on.
const DiskBytes = ImageBytes + PermBytes

var (
	typeESP   = mustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	typeLinux = mustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
)

// PartitionID returns the GUID of a partition in images of an instance, in gokrazy's
// form: its init finds its disk by that of the first one.
func PartitionID(instance uint32, number int) GUID {
	return mustGUID(fmt.Sprintf("60c24cc1-f3f9-427a-8199-%08x00%02x", instance, number))
}

// ImageTable returns the partition table of a disk image.
func ImageTable(instance uint32) *Table {
	t := &Table{ID: PartitionID(instance, 0), Sectors: ImageBytes / SectorBytes}
	at := uint64(MiB / SectorBytes)
	for i, p := range []struct {
		name  string
		kind  GUID
		bytes uint64
	}{{"boot", typeESP, ESPBytes}, {"root-a", typeLinux, RootBytes}, {"root-b", typeLinux, RootBytes}} {
		sectors := p.bytes / SectorBytes
		t.Partitions = append(t.Partitions, Partition{
			Type: p.kind, ID: PartitionID(instance, i+1), First: at, Last: at + sectors - 1, Name: p.name,
		})
		at += sectors
	}
	return t
}

// WithPerm returns the table for a disk of the given number of sectors: /perm has all
// that is behind root B. It keeps the beginning of a /perm that is there. The error
// says if the table is not one of the product's, or the disk too small.
func (t *Table) WithPerm(sectors uint64) (*Table, error) {
	esp, b := t.Partition(ESP), t.Partition(RootB)
	if esp == (Partition{}) || t.Partition(RootA) == (Partition{}) || b == (Partition{}) {
		return nil, fmt.Errorf("not a disk of this system: it lacks one of the partitions 1 to 3")
	}
	n := &Table{ID: t.ID, Sectors: sectors, Partitions: append([]Partition(nil), t.Partitions...), array: t.array}
	perm := t.Partition(Perm)
	if perm == (Partition{}) {
		if len(n.Partitions) > RootB {
			return nil, fmt.Errorf("not a disk of this system: it has partition %d, but not 4", len(n.Partitions))
		}
		perm = Partition{Type: typeLinux, ID: esp.ID, First: roundUp(b.Last + 1), Name: "perm"}
		perm.ID[15] = Perm
		n.Partitions = append(n.Partitions, perm)
	}
	// Up to a whole MiB, as partitioning tools do.
	end := (n.lastUsable() + 1) / (MiB / SectorBytes) * (MiB / SectorBytes)
	perm.Last = max(perm.Last, end-1)
	if perm.Last < perm.First || perm.Bytes() < PermBytes {
		return nil, fmt.Errorf("the disk has %d MiB, at least %d are needed", sectors*SectorBytes/MiB, DiskBytes/MiB)
	}
	n.Partitions[Perm-1] = perm
	return n, n.check()
}

func roundUp(lba uint64) uint64 {
	const grain = MiB / SectorBytes
	return (lba + grain - 1) / grain * grain
}
