package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/boot/boottest"
)

// kernelBytes is the size of the kernel files of the tests.
const kernelBytes = 6 << 10

// kernel is a kernel that is complete, and can be told from others.
func kernel(version string) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%-32s", version)), kernelBytes/32)
}

// newESP returns a boot partition with version 1.
func newESP(t testing.TB) []byte { return boottest.New(t, kernel("1"), kernelBytes) }

// turnOn starts what the boot loader would. Half a kernel fails the test.
func turnOn(t testing.TB, image []byte) (version string, slot boot.Slot) {
	t.Helper()
	slot, data := boottest.TurnOn(t, image)
	version = strings.TrimSpace(string(data[:32]))
	if !bytes.Equal(data, kernel(version)) {
		t.Fatalf("slot %s starts half a kernel", slot)
	}
	return version, slot
}

// errPower says that there is none left.
var errPower = errors.New("power cut")

// disk is a boot partition in memory whose power goes after some sectors.
type disk struct {
	data []byte
	left int // sectors until the power goes; negative: it stays
}

func (d *disk) Size() int64 { return int64(len(d.data)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.left == 0 {
		return 0, errPower
	}
	return bytes.NewReader(d.data).ReadAt(p, off)
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		if d.left == 0 {
			return done, errPower
		}
		d.left--
		at := off + int64(done)
		done += copy(d.data[at:(at/512+1)*512], p[done:])
	}
	return len(p), nil
}

func (d *disk) Sync() error {
	if d.left == 0 {
		return errPower
	}
	return nil
}
