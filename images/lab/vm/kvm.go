//go:build linux

package vm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// probe is a program for the 8086's reset vector that counts the bits of 0xf4, which
// are five, and writes the number to the port 0xf4, which ends QEMU. Its second
// instruction is younger than those that a host's kernel knows how to interpret: a
// KVM without hardware behind it, as some clouds offer it, comes to a halt there as
// it does in every real kernel.
var probe = []byte{
	0xba, 0xf4, 0x00, // mov dx, 0xf4
	0xf3, 0x0f, 0xb8, 0xc2, // popcnt ax, dx
	0xee, // out dx, al
	0xf4, // hlt
}

const (
	probeROM    = 64 << 10      // bytes; a ROM ends where the address space does
	resetVector = probeROM - 16 // where the processor begins
	probeExit   = 5<<1 | 1      // how isa-debug-exit tells a 5
	probeTime   = 3 * time.Second
)

// KVM reports whether machines of this computer's own architecture can be run by
// its hardware. It tries, once, and takes a tenth of a second for a yes and at most
// three seconds for a no.
var KVM = sync.OnceValue(func() bool {
	if runtime.GOARCH != "amd64" {
		return false // nobody has tried it on another
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	dir, err := os.MkdirTemp("", "bulkhead-kvm-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "rom")
	data := make([]byte, probeROM)
	copy(data[resetVector:], probe)
	if err := os.WriteFile(rom, data, 0o600); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, arches["amd64"].qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,accel=kvm",
		"-cpu", "host", "-m", "16", "-bios", rom, "-device", "isa-debug-exit,iobase=0xf4,iosize=1")
	cmd.Stderr = cancelWriter(cancel) // QEMU says that it is stuck, and stays
	err = cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == probeExit
})

// cancelWriter ends a program at its first complaint.
type cancelWriter context.CancelFunc

func (c cancelWriter) Write(b []byte) (int, error) {
	c()
	return len(b), nil
}
