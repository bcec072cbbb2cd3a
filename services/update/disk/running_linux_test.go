package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/disk"
)

const cmdline = "console=ttyS0,115200 root=PARTUUID=60C24CC1-f3f9-427a-8199-1234abcd0001/PARTNROFF=%d ro init=/gokrazy/init\n"

func TestRunningDiskIsThatOfTheRootFileSystem(t *testing.T) {
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dev, dir := range map[string]string{
		"8:2": "block/sda/sda2", "8:3": "block/sda/sda3", "8:18": "block/sdb/sdb2", "8:1": "block/sda/sda1",
		"259:2": "block/nvme0n1/nvme0n1p2", "7:0": "block/loop0",
	} {
		dir = filepath.Join(sys, "devices/pci", dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dev != "7:0" {
			if err := os.WriteFile(filepath.Join(dir, "partition"), []byte(dir[len(dir)-1:]+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(dir, filepath.Join(sys, "dev/block", dev)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		major, minor uint32
		slot         int
		path, perm   string // "": refused
	}{
		{8, 2, 1, "/dev/sda", "/dev/sda4"},
		{8, 3, 2, "/dev/sda", "/dev/sda4"},
		{8, 18, 1, "/dev/sdb", "/dev/sdb4"},
		{259, 2, 1, "/dev/nvme0n1", "/dev/nvme0n1p4"},
		{8, 3, 1, "", ""}, // not what the command line says
		{8, 1, 1, "", ""},
		{7, 0, 1, "", ""},
		{0, 25, 1, "", ""}, // an overlay
	}
	for _, tt := range tests {
		d, err := disk.Find(sys, fmt.Sprintf(cmdline, tt.slot), unix.Mkdev(tt.major, tt.minor))
		if tt.path == "" {
			if err == nil {
				t.Errorf("%d:%d: got %+v", tt.major, tt.minor, d)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d:%d: %v", tt.major, tt.minor, err)
			continue
		}
		if d.Path != tt.path || d.Slot != tt.slot-1 || d.Partition(disk.Perm) != tt.perm {
			t.Errorf("%d:%d: got %+v, partition 4 %s", tt.major, tt.minor, d, d.Partition(disk.Perm))
		}
	}
}

func TestCommandLines(t *testing.T) {
	g, slot, err := disk.ParseRoot(fmt.Sprintf(cmdline, 2))
	if err != nil || g != disk.PartitionID(instance, disk.ESP) || slot != 1 {
		t.Errorf("got %s, %d, %v", g, slot, err)
	}
	for _, bad := range []string{"", "root=/dev/sda2", "xroot=PARTUUID=60c24cc1-f3f9-427a-8199-1234abcd0001/PARTNROFF=1",
		"root=PARTUUID=60c24cc1-f3f9-427a-8199-1234abcd0001/PARTNROFF=12", "root=PARTUUID=60c24cc1-f3f9-427a-8199-1234abcd0001"} {
		if _, _, err := disk.ParseRoot(bad); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// TestKernelIsTold makes and grows a partition of a disk that another partition of is
// in use.
func TestKernelIsTold(t *testing.T) {
	f := imageFile(t, disk.DiskBytes)
	if err := disk.Create(f, disk.ImageTable(instance)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", f.Name()).CombinedOutput()
	if err != nil {
		t.Skipf("needs root and loop devices: %v: %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	defer func() {
		if out, err := exec.Command("losetup", "--detach", loop).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	dev, err := os.OpenFile(loop, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	// This machine's kernel may not read GPT itself.
	for n := disk.ESP; n <= disk.RootB; n++ {
		if err := disk.Announce(dev, n, read(t, dev).Partition(n)); err != nil {
			t.Fatal(err)
		}
	}
	inUse, err := os.OpenFile(node(t, filepath.Base(loop)+"p2"), os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer inUse.Close()
	for _, size := range []int64{disk.DiskBytes, disk.DiskBytes + 100*disk.MiB} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
			t.Fatal(err)
		}
		grown, err := read(t, dev).WithPerm(uint64(size) / disk.SectorBytes)
		if err == nil {
			err = disk.Write(dev, grown)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := disk.Announce(dev, disk.Perm, grown.Partition(disk.Perm)); err != nil {
				t.Fatal(err)
			}
		}
		sectors, err := os.ReadFile(fmt.Sprintf("/sys/class/block/%sp4/size", filepath.Base(loop)))
		if want := fmt.Sprintln(grown.Partition(disk.Perm).Bytes() / disk.SectorBytes); err != nil || string(sectors) != want {
			t.Errorf("the kernel says %q, %v; want %q", sectors, err, want)
		}
	}
}

// node makes a device node for a block device, since not every /dev follows the kernel.
func node(t *testing.T, name string) string {
	t.Helper()
	var major, minor uint32
	numbers, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if err == nil {
		_, err = fmt.Sscanf(string(numbers), "%d:%d", &major, &minor)
	}
	path := filepath.Join(t.TempDir(), name)
	if err == nil {
		err = unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}
