//go:build linux

package boot

import (
	"fmt"

	"bulkhead/services/update/direct"
	"bulkhead/services/update/disk"
)

// With opens the boot partition at path for as long as f runs.
func With(path string, f func(*ESP) error) error {
	dev, err := direct.Open(path)
	if err != nil {
		return fmt.Errorf("open the boot partition: %w", err)
	}
	defer dev.Close()
	e, err := Open(dev)
	if err != nil {
		return err
	}
	return f(e)
}

// SlotOf returns the slot that the system on a disk was started from.
func SlotOf(d disk.Disk) Slot { return A + Slot(d.Slot) }
