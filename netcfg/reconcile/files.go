//go:build linux

package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/privdrop"
)

// maxForeign bounds what is read of a file that a service wrote, in bytes: 65,536
// leases take about 20 MB.
const maxForeign = 32 << 20

// audience is a service with its directory, and whose group may read what the
// service leaves there.
type audience struct {
	owner, reader svcconf.User
	conf          func(*compile.Result) any
}

var audiences = []audience{
	{svcconf.Wand, svcconf.Wand, func(r *compile.Result) any { return r.WAN }},
	{svcconf.Dhcpd, svcconf.Dnsd, func(r *compile.Result) any { return r.DHCP }}, // leases become names
	{svcconf.Dnsd, svcconf.Dnsd, func(r *compile.Result) any { return r.DNS }},
}

// directory makes the service's directory, or mends it.
func (a audience) directory(run string) error {
	_, err := privdrop.Dir(run, a.owner.Name, a.owner.ID, a.reader.ID)
	return err
}

// prepare makes the services' directories, so that there is something to watch
// before the services are there.
func (r *Reconciler) prepare() {
	for _, a := range audiences {
		if err := a.directory(r.o.Run); err != nil {
			r.o.Log.Error("prepare a service's directory", "service", a.owner.Name, "err", err)
		}
	}
	r.lease.path = filepath.Join(r.o.Run, svcconf.Wand.Name, svcconf.UplinkFile)
}

// tell gives each service its configuration.
func (r *Reconciler) tell(out *outcome) {
	for _, a := range audiences {
		err := a.directory(r.o.Run)
		if err == nil {
			err = hand(r.o.Run, a.owner, a.conf(out.result))
		}
		if err != nil {
			out.fail("configure %s: %w", a.owner.Name, err)
		}
	}
}

// hand writes a service's configuration, readable by it alone, unless it is there
// already. The directory is the service's: root neither follows nor overwrites what
// the service may have put there.
func hand(run string, user svcconf.User, conf any) error {
	data, err := json.MarshalIndent(conf, "", "\t")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	path := filepath.Join(run, user.Name, svcconf.ConfigFile)
	if old, err := readForeign(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o640))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if os.Geteuid() == 0 {
		if err := f.Chown(0, user.ID); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// readForeign reads a file in a directory that belongs to a service. Should that
// have been taken over, it must not make root read a file of somebody else's, wait
// for a pipe, or run out of memory.
func readForeign(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxForeign+1))
	if err == nil && len(data) > maxForeign {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxForeign)
	}
	return data, err
}

// readLeases returns the leases that dhcpd has given; none if it has not said.
func readLeases(run string) ([]svcconf.Lease, error) {
	data, err := readForeign(filepath.Join(run, svcconf.Dhcpd.Name, svcconf.LeasesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l svcconf.Leases
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", svcconf.LeasesFile, err)
	}
	return l.Leases, nil
}

// leaseFile is the uplink's lease as wand leaves it. How long it holds is counted
// from when it was first seen and not by the times in it: the clock on the wall may
// be set between the two, as it is after every boot without a battery.
type leaseFile struct {
	path string
	data []byte
	told *facts.Lease // what data says
	end  time.Time    // monotonic; zero: never
}

// read returns the lease in force, without an end by the clock, or nil.
func (l *leaseFile) read() (*facts.Lease, error) {
	data, err := readForeign(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		*l = leaseFile{path: l.path}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := decodeLease(data)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(data, l.data) {
		l.data, l.told, l.end = data, v, time.Time{}
		if !v.Expires.IsZero() {
			l.end = time.Now().Add(v.Expires.Sub(v.Obtained))
		}
	}
	if _, ok := l.left(); !ok && !l.end.IsZero() {
		return nil, nil
	}
	force := *v
	force.Expires = time.Time{} // as above
	return &force, nil
}

// left returns how long the lease holds, and false if it is over or has no end.
func (l *leaseFile) left() (time.Duration, bool) {
	d := time.Until(l.end)
	return d, !l.end.IsZero() && d > 0
}

// decodeLease reads what wand wrote. Wand talks to strangers: what it says is taken
// for no more than an address that the box may have.
func decodeLease(data []byte) (*facts.Lease, error) {
	var v facts.Lease
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", svcconf.UplinkFile, err)
	}
	bad := func(a netip.Addr) bool {
		return !a.Is4() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.As4()[0] >= 240
	}
	switch {
	case !v.Address.IsValid() || bad(v.Address.Addr()) || v.Address.Bits() < 8:
		return nil, fmt.Errorf("%s: %s is no address for the box", svcconf.UplinkFile, v.Address)
	case v.Gateway.IsValid() && bad(v.Gateway):
		return nil, fmt.Errorf("%s: %s is no gateway", svcconf.UplinkFile, v.Gateway)
	}
	return &v, nil
}
