package disk_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/services/update/disk"
)

const instance = 0x1234abcd

// unexported fields say where on the disk a table is, not what it says.
var sameTable = cmpopts.IgnoreUnexported(disk.Table{})

func imageFile(t *testing.T, bytes int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, f *os.File) *disk.Table {
	t.Helper()
	sectors, err := disk.Sectors(f)
	if err != nil {
		t.Fatal(err)
	}
	table, err := disk.Read(f, sectors)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// sgdisk holds a disk against another implementation. It warns of the gap beside the
// entries, where the others go, and finds no problem in it.
func sgdisk(t *testing.T, f *os.File) {
	t.Helper()
	if _, err := exec.LookPath("sgdisk"); err != nil {
		t.Skip("no sgdisk: make deps-test")
	}
	out, err := exec.Command("sgdisk", "--verify", f.Name()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk --verify: %v\n%s", err, out)
	}
}

func TestTableIsReadBack(t *testing.T) {
	f := imageFile(t, disk.ImageBytes)
	want := disk.ImageTable(instance)
	want.Partitions[1].Name = "Wurzel ä 🌱"
	want.Partitions[2].Attributes = 1 << 60
	if err := disk.Create(f, want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, f), sameTable); diff != "" {
		t.Errorf("table read back (-want +got):\n%s", diff)
	}
	sgdisk(t, f)
}

func TestImageTable(t *testing.T) {
	table := disk.ImageTable(instance)
	if got, want := table.Partition(disk.ESP).ID.String(), "60c24cc1-f3f9-427a-8199-1234abcd0001"; got != want {
		t.Errorf("first partition is %s, want %s", got, want)
	}
	type place struct{ start, size int64 }
	var got []place
	for n := 1; n <= 4; n++ {
		p := table.Partition(n)
		got = append(got, place{p.Start() / disk.MiB, p.Bytes() / disk.MiB})
	}
	want := []place{{1, 128}, {129, 256}, {385, 256}, {0, 0}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{})); diff != "" {
		t.Errorf("places in MiB (-want +got):\n%s", diff)
	}
}

func TestTableGrowsWithTheDisk(t *testing.T) {
	f := imageFile(t, disk.ImageBytes)
	if err := disk.Create(f, disk.ImageTable(instance)); err != nil {
		t.Fatal(err)
	}
	perm := int64(0)
	for _, size := range []int64{disk.DiskBytes, 8 << 30, 8<<30 + 4096, 2 << 40} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		grown, err := read(t, f).WithPerm(uint64(size) / disk.SectorBytes)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time nothing is left to do
			if err := disk.Write(f, grown); err != nil {
				t.Fatal(err)
			}
		}
		got := read(t, f)
		if diff := cmp.Diff(grown, got, sameTable); diff != "" {
			t.Errorf("table for %d bytes (-want +got):\n%s", size, diff)
		}
		p := got.Partition(disk.Perm)
		if p.ID != disk.PartitionID(instance, disk.Perm) || p.Start() != 641*disk.MiB || p.Bytes() < perm {
			t.Errorf("disk of %d bytes: partition 4 is %+v", size, p)
		}
		perm = p.Bytes()
		sgdisk(t, f)
	}
}

func TestPermIsRefusedWhereItDoesNotFit(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*disk.Table)
		sectors uint64
		want    string
	}{
		{"small disk", func(*disk.Table) {}, (disk.DiskBytes - disk.MiB) / disk.SectorBytes, "at least 706 are needed"},
		{"foreign disk", func(t *disk.Table) { t.Partitions = t.Partitions[:2] }, 1 << 30, "lacks one of the partitions"},
		{"more partitions", func(t *disk.Table) {
			t.Partitions = append(t.Partitions, disk.Partition{}, t.Partitions[0])
		}, 1 << 30, "has partition 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := disk.ImageTable(instance)
			tt.change(table)
			if _, err := table.WithPerm(tt.sectors); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestUnusableTablesAreNotWritten(t *testing.T) {
	tests := map[string]func(*disk.Table){
		"overlap":    func(t *disk.Table) { t.Partitions[1].First = 5000 },
		"backwards":  func(t *disk.Table) { t.Partitions[1].Last = t.Partitions[1].First - 1 },
		"over array": func(t *disk.Table) { t.Partitions[0].First = 60 },
		"over end":   func(t *disk.Table) { t.Partitions[2].Last = t.Sectors - 5 },
		"no type":    func(t *disk.Table) { t.Partitions[0].Type = disk.GUID{} },
		"long name":  func(t *disk.Table) { t.Partitions[0].Name = strings.Repeat("x", 37) },
		"tiny disk":  func(t *disk.Table) { t.Sectors = 70 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f := imageFile(t, disk.ImageBytes)
			table := disk.ImageTable(instance)
			change(table)
			if err := disk.Create(f, table); err == nil {
				t.Error("it was written")
			}
		})
	}
}

func TestDamageIsNoticed(t *testing.T) {
	f := imageFile(t, disk.ImageBytes)
	if err := disk.Create(f, disk.ImageTable(instance)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, disk.MiB)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	const sectors = disk.ImageBytes / disk.SectorBytes
	for _, at := range []int{450, 454, 510, 512, 524, 528, 536, 568, 584, 592, 600, 1024, 1024 + 130, 17407} {
		broken := bytes.Clone(head)
		broken[at] ^= 0x40
		if _, err := disk.Read(bytes.NewReader(broken), sectors); err == nil {
			t.Errorf("byte %d changed, and nobody noticed", at)
		}
	}
	if _, err := disk.Read(bytes.NewReader(head), sectors/2); err == nil {
		t.Error("a table that is larger than its disk was taken")
	}
}

func TestGUIDs(t *testing.T) {
	for _, bad := range []string{"", "60c24cc1", "60c24cc1-f3f9-427a-8199-1234abcd000g", "60c24cc1f3f9-427a-8199-1234abcd0001-", strings.Repeat("0", 32)} {
		if g, err := disk.ParseGUID(bad); err == nil {
			t.Errorf("%q was taken as %s", bad, g)
		}
	}
}

// FuzzRead mends the checksums, which would keep all but luck out.
func FuzzRead(f *testing.F) {
	seed := func(t *disk.Table) {
		m := newMemory(disk.ImageBytes)
		b := make([]byte, 66*disk.SectorBytes)
		err := disk.Create(m, t)
		if err == nil {
			_, err = m.ReadAt(b, 0)
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[512:][:92], b[1024:][:6*128])
	}
	table := disk.ImageTable(instance)
	seed(table)
	table.Partitions = append(table.Partitions, disk.Partition{}, disk.Partition{Type: table.ID, First: 1312768, Last: 1312768})
	seed(table)
	f.Fuzz(func(t *testing.T, header, entries []byte) {
		b := append(disk.ProtectiveMBR(), make([]byte, 65*disk.SectorBytes)...)
		copy(b[512:1024], header)
		copy(b[1024:], entries)
		le := binary.LittleEndian
		if n := le.Uint32(b[512+80:]); n <= 128 {
			le.PutUint32(b[512+88:], crc32.ChecksumIEEE(b[1024:][:n*128]))
		}
		clear(b[512+16:][:4])
		if n := le.Uint32(b[512+12:]); n <= 512 {
			le.PutUint32(b[512+16:], crc32.ChecksumIEEE(b[512:][:n]))
		}
		const sectors = disk.ImageBytes / disk.SectorBytes
		table, err := disk.Read(bytes.NewReader(b), sectors)
		if err != nil {
			return
		}
		for n := range len(table.Partitions) + 2 {
			if p := table.Partition(n); p.Bytes() < 0 || p.Start() < 0 {
				t.Errorf("partition %d: %+v", n, p)
			}
		}
		grown, err := table.WithPerm(sectors * 2)
		if err != nil {
			return
		}
		for n := 1; n < disk.Perm; n++ {
			if grown.Partition(n) != table.Partition(n) {
				t.Errorf("partition %d changed", n)
			}
		}
	})
}
