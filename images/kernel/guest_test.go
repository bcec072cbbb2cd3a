//go:build linux

package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/images/kernel"
	"bulkhead/images/kernel/trial"
	"bulkhead/images/lab/vm"
)

// ownPlugs is what only one architecture's machine can have.
var ownPlugs = map[string][]plug{
	"amd64": {
		{"", "class/watchdog/watchdog0/identity i6300ESB timer"}, // which package vm plugs in everywhere
		{"pvscsi,id=pv", ""}, {"scsi-hd,bus=pv.0,drive=disk", "class/scsi_host/*/proc_name vmw_pvscsi"},
		{"vmxnet3,netdev=none", "class/net/*/device/driver vmxnet3"},
		{"isa-serial,index=1", "class/tty/ttyS1"},
	},
}

// plug is a device of QEMU's, and by what in /sys the guest knows that a driver has
// it: see package guest. A device that wants a disk or a network gets an empty one.
type plug struct{ device, sign string }

// plugs is what a small box may have and QEMU can pretend.
var plugs = []plug{
	{"virtio-blk-pci,drive=disk", "block/vda"},
	{"nvme,serial=1,drive=disk", "block/nvme0n1"},
	{"ahci,id=sata", ""}, {"ide-hd,bus=sata.0,drive=disk", "class/scsi_host/*/proc_name ahci"},
	{"virtio-scsi-pci,id=vs", ""}, {"scsi-hd,bus=vs.0,drive=disk", "class/scsi_host/*/proc_name virtio_scsi"},
	{"sdhci-pci,id=sd", ""}, {"sd-card,drive=disk", "block/mmcblk0"},
	{"qemu-xhci,id=usb3", ""},
	{"usb-storage,bus=usb3.0,drive=disk", "class/scsi_host/*/proc_name usb-storage"},
	{"usb-uas,id=uas,bus=usb3.0", ""}, {"scsi-hd,bus=uas.0,drive=disk", "bus/usb/drivers/uas/*:*"},
	{"usb-kbd,bus=usb3.0", "class/input/input*/name QEMU QEMU USB Keyboard"},
	{"usb-net,bus=usb3.0,netdev=none", "class/net/*/device/driver cdc_ether"},
	{"e1000,netdev=none", "class/net/*/device/driver e1000"},
	{"e1000e,netdev=none", "class/net/*/device/driver e1000e"},
	{"", "class/misc/hw_random/rng_current virtio_rng.0"}, // which package vm plugs in
}

// arguments returns what QEMU wants to be told of the devices, and the signs by
// which the guest finds them.
func arguments(plugs []plug) (args []string, signs string) {
	for i, p := range plugs {
		id := fmt.Sprintf("back%d", i)
		if strings.Contains(p.device, "drive=disk") {
			args = append(args, "-blockdev", "driver=null-co,read-zeroes=on,size=67108864,node-name="+id)
		}
		if strings.Contains(p.device, "netdev=none") {
			args = append(args, "-netdev", fmt.Sprintf("hubport,id=%s,hubid=%d", id, 10+i))
		}
		if p.device != "" {
			args = append(args, "-device", strings.NewReplacer("drive=disk", "drive="+id, "netdev=none", "netdev="+id).Replace(p.device))
		}
		if p.sign != "" {
			signs += p.sign + "\n"
		}
	}
	return args, signs
}

// TestGuest starts the kernel in QEMU with a program as init that holds the running
// kernel against needed.txt and tries it out: see package guest. It does so for the
// architectures that there are a kernel and QEMU for, and skips others. With
// BULKHEAD_NEED_VM, which is an architecture or 1 for that of this machine, it is for
// that one, and fails where it cannot be.
func TestGuest(t *testing.T) {
	switch need := os.Getenv("BULKHEAD_NEED_VM"); need {
	case "":
		for _, name := range []string{"amd64", "arm64"} {
			t.Run(name, func(t *testing.T) { testGuest(t, name, t.Skipf) })
		}
	case "1":
		testGuest(t, runtime.GOARCH, t.Fatalf)
	default:
		testGuest(t, need, t.Fatalf)
	}
}

func testGuest(t *testing.T, name string, lack func(format string, args ...any)) {
	arch, err := kernel.ArchByName(name)
	if err != nil {
		t.Fatal(err)
	}
	options, err := kernel.FromEnvironment(arch)
	if err != nil {
		lack("no cache: %v", err)
	}
	k, err := kernel.Lookup(t.Context(), options)
	if errors.Is(err, fs.ErrNotExist) {
		lack("no kernel has been built: run make kernel ARCH=%s, or set KERNEL_CACHE (%v)", name, err)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := vm.Lacks(name); err != nil {
		lack("%v", err)
	}
	devices, signs := arguments(append(slices.Clone(plugs), ownPlugs[name]...))
	run := trial.Trial{
		Arch: arch, Kernel: k, Config: "../../configs/zero-trust.yaml", Files: map[string][]byte{"/hardware": []byte(signs)},
		QEMU: append([]string{
			// The cards of configs/zero-trust.yaml, connected to nothing.
			"-netdev", "hubport,id=wan,hubid=1", "-device", "virtio-net-pci,netdev=wan,mac=52:54:00:10:00:01,romfile=",
			"-netdev", "hubport,id=trunk,hubid=2", "-device", "virtio-net-pci,netdev=trunk,mac=52:54:00:10:00:02,romfile=",
		}, append(devices, preparedDisks(t, lack)...)...),
	}
	if name == runtime.GOARCH {
		if err := bring(t, run.Files, "nft"); err != nil {
			lack("nft is not installed: %v", err)
		}
		if run.Files["/etc/protocols"], err = os.ReadFile("/etc/protocols"); err != nil { // by whose names nft calls numbers
			lack("no names of protocols: %v", err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	lines, err := run.Run(ctx)
	for _, line := range lines {
		if strings.HasPrefix(line, "FAIL ") {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// preparedDisks makes disks for the guest, known by their serial numbers, and returns
// what plugs them in.
func preparedDisks(t *testing.T, lack func(format string, args ...any)) (args []string) {
	t.Helper()
	const size = 48 << 20
	for serial, mkfs := range map[string][]string{
		"fat":   {"mkfs.vfat", "-F", "32"},
		"ext4":  {"mkfs.ext4", "-q", "-b", "1024"},
		"empty": nil,
	} {
		file := filepath.Join(t.TempDir(), serial)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		if mkfs != nil {
			command := append(slices.Clone(mkfs), file)
			if serial == "ext4" {
				command = append(command, fmt.Sprint(size/3>>10)) // blocks: there is room to grow
			}
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
			if errors.Is(err, exec.ErrNotFound) {
				lack("%v", err)
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
		}
		args = append(args, "-blockdev", "driver=file,filename="+file+",node-name=disk-"+serial,
			"-device", "virtio-blk-pci,drive=disk-"+serial+",serial="+serial)
	}
	return args
}

// bring adds a program of this machine, as /bin/<name>, and the libraries that it is
// linked to.
func bring(t *testing.T, files map[string][]byte, name string) error {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	for _, path := range libraries.FindAllString(string(out), -1) {
		if files[path], err = os.ReadFile(path); err != nil {
			return err
		}
	}
	files["/bin/"+name], err = os.ReadFile(program)
	return err
}

// libraries are the paths in what ldd prints.
var libraries = regexp.MustCompile(`/\S+`)
