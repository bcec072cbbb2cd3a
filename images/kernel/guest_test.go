package kernel_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/images/kernel"
)

// machines are what QEMU starts a kernel in: by emulation, which is always there.
var machines = map[string]struct {
	qemu  string
	args  []string
	plugs []plug
}{
	"amd64": {"qemu-system-x86_64", []string{"-machine", "q35,accel=tcg", "-cpu", "max,la57=off"}, []plug{
		{"i6300esb", "class/watchdog/watchdog0/identity i6300ESB timer"},
		{"pvscsi,id=pv", ""}, {"scsi-hd,bus=pv.0,drive=disk", "class/scsi_host/*/proc_name vmw_pvscsi"},
		{"vmxnet3,netdev=none", "class/net/*/device/driver vmxnet3"},
		{"isa-serial,index=1", "class/tty/ttyS1"},
	}},
	"arm64": {"qemu-system-aarch64", []string{"-machine", "virt,accel=tcg", "-cpu", "cortex-a72"}, nil},
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
	{"virtio-rng-pci", "class/misc/hw_random/rng_current virtio_rng.0"},
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
		args = append(args, "-device", strings.NewReplacer("drive=disk", "drive="+id, "netdev=none", "netdev="+id).Replace(p.device))
		if p.sign != "" {
			signs += p.sign + "\n"
		}
	}
	return args, signs
}

// TestGuest starts the kernel in QEMU with a program as init that holds the running
// kernel against needed.txt and tries it out: see package guest. Without a kernel in
// a cache or without QEMU it is skipped; with BULKHEAD_NEED_VM=1 it then fails, on
// the architecture of this machine.
func TestGuest(t *testing.T) {
	for _, name := range []string{"amd64", "arm64"} {
		t.Run(name, func(t *testing.T) { testGuest(t, name) })
	}
}

func testGuest(t *testing.T, name string) {
	lack := t.Skipf
	if os.Getenv("BULKHEAD_NEED_VM") == "1" && name == runtime.GOARCH {
		lack = t.Fatalf
	}
	arch, err := kernel.ArchByName(name)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := kernel.CacheDir()
	if err != nil {
		lack("no cache: %v", err)
	}
	k, err := kernel.Lookup(t.Context(), kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
	})
	if errors.Is(err, fs.ErrNotExist) {
		lack("no kernel has been built: run make kernel ARCH=%s, or set KERNEL_CACHE (%v)", name, err)
	} else if err != nil {
		t.Fatal(err)
	}
	m := machines[name]
	qemu, err := exec.LookPath(m.qemu)
	if err != nil {
		lack("QEMU is not installed: %v", err)
	}

	devices, signs := arguments(append(slices.Clone(plugs), m.plugs...))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, slices.Concat(m.args, []string{
		"-m", "256", "-smp", "1", "-nodefaults", "-kernel", k.Image(), "-initrd", initramfs(t, name, signs),
		"-append", fmt.Sprintf("console=%s panic=-1 quiet", arch.Console()),
		"-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot",
		// The cards of configs/zero-trust.yaml, connected to nothing.
		"-netdev", "hubport,id=wan,hubid=1", "-device", "virtio-net-pci,netdev=wan,mac=52:54:00:10:00:01,romfile=",
		"-netdev", "hubport,id=trunk,hubid=2", "-device", "virtio-net-pci,netdev=trunk,mac=52:54:00:10:00:02,romfile=",
	}, devices)...)
	out, err := cmd.CombinedOutput()
	done := false
	for line := range strings.Lines(string(out)) {
		line, ours := strings.CutPrefix(strings.TrimSpace(line), "guest: ")
		switch {
		case !ours:
		case line == "done":
			done = true
		case strings.HasPrefix(line, "FAIL "):
			t.Error(line)
		default:
			t.Log(line)
		}
	}
	if !done {
		t.Errorf("the guest did not come to its end (%v):\n%s", cmp.Or(err, ctx.Err()), out)
	}
}

// initramfs returns a file with package guest as init, a configuration for it and
// the signs of the hardware.
func initramfs(t *testing.T, arch, signs string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	var b bytes.Buffer
	for _, f := range []struct {
		name, from string
		mode       int
	}{
		{"init", program, 0o100755},
		{"bulkhead.yaml", "../../configs/zero-trust.yaml", 0o100644},
	} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			t.Fatal(err)
		}
		cpio(&b, f.name, f.mode, data)
	}
	cpio(&b, "hardware", 0o100644, []byte(signs))
	cpio(&b, "TRAILER!!!", 0, nil)
	name := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// cpio appends a file to an archive in the "newc" format. See
// Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
func cpio(b *bytes.Buffer, name string, mode int, data []byte) {
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	b.WriteString("070701")
	// inode, mode, uid, gid, links, mtime, size, device and rdevice (two each),
	// length of the name, checksum
	for _, field := range []int{0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(b, "%08x", field)
	}
	b.WriteString(name + "\x00")
	pad()
	b.Write(data)
	pad()
}
