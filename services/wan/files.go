package wan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/wan/dhcp4"
)

// savedFile is what is kept over a reboot, a [dhcp4.Saved].
const savedFile = "address.json"

// maxFile bounds what is read back, in bytes.
const maxFile = 1 << 16

// readable is the mode of the files: the directories say who may come near.
const readable = 0o644

// files are the daemon's files in its run directory and its state directory.
type files struct{ run, state string }

// sweep removes what a killed daemon left half written, and its last status, which
// is not ours.
func (f files) sweep() {
	os.Remove(f.status())
	for _, path := range []string{f.uplink(), f.status(), f.saved()} {
		left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"*"))
		for _, name := range left {
			os.Remove(name) // or not: it is only clutter
		}
	}
}

func (f files) uplink() string { return filepath.Join(f.run, svcconf.UplinkFile) }
func (f files) status() string { return filepath.Join(f.run, svcconf.StatusFile) }
func (f files) saved() string  { return filepath.Join(f.state, savedFile) }

// readUplink returns the lease that an earlier daemon left in force, or nil.
func (f files) readUplink() (*facts.Lease, error) {
	var l facts.Lease
	if ok, err := read(f.uplink(), &l); !ok {
		return nil, err
	}
	return &l, nil
}

// writeUplink puts a lease in force; nil removes it.
func (f files) writeUplink(l *facts.Lease) error {
	if l == nil {
		return remove(f.uplink())
	}
	return write(f.uplink(), l)
}

func (f files) writeStatus(s svcconf.WANStatus) error { return write(f.status(), s) }

// readSaved returns the zero value if nothing was saved.
func (f files) readSaved() (dhcp4.Saved, error) {
	var s dhcp4.Saved
	if ok, err := read(f.saved(), &s); !ok {
		return dhcp4.Saved{}, err
	}
	return s, nil
}

// writeSaved returns when the value would survive a power cut.
func (f files) writeSaved(s dhcp4.Saved) error {
	if s == (dhcp4.Saved{}) {
		if err := remove(f.saved()); err != nil {
			return err
		}
	} else if err := write(f.saved(), s); err != nil {
		return err
	}
	dir, err := os.Open(f.state)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// read reads a JSON file; ok is false if it is not there or cannot be read.
func read(path string, v any) (ok bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// write replaces a JSON file in one step, so that no reader sees half of it.
func write(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// In the same directory: /tmp belongs to others and may be another disk.
	return renameio.WriteFile(path, append(data, '\n'), readable, renameio.WithTempDir(filepath.Dir(path)))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
