//go:build linux

package reconcile

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/metrics"
	"bulkhead/services/privdrop"
)

// What is read at most of files that services wrote, in bytes.
const (
	maxConfig = 32 << 20 // our own, if nobody meddled: 65,536 reservations and hosts
	maxLeases = 32 << 20 // 512 bytes for each of 65,536
	maxUplink = 64 << 10
	maxAck    = 128
)

// maxResolvers is how many resolvers of the uplink's lease are taken.
const maxResolvers = 8

// audience is a service with its directory, and whose group may read what the
// service leaves there.
type audience struct {
	owner, reader svcconf.User
	conf          func(*compile.Result, *revealer) any
}

var audiences = []audience{
	{svcconf.Wand, svcconf.Wand, func(r *compile.Result, _ *revealer) any { return r.WAN }},
	{svcconf.Dhcpd, svcconf.Dnsd, func(r *compile.Result, _ *revealer) any { return r.DHCP }}, // leases become names
	{svcconf.Dnsd, svcconf.Dnsd, func(r *compile.Result, v *revealer) any { return v.dns(r.DNS) }},
	{svcconf.Webuid, svcconf.Webuid, func(r *compile.Result, _ *revealer) any { return r.Web }},
	{svcconf.Flowd, svcconf.Webuid, func(r *compile.Result, _ *revealer) any { return r.Flow }}, // webuid asks it
	{svcconf.Updated, svcconf.Updated, func(r *compile.Result, _ *revealer) any { return r.Update }},
	{svcconf.Diagd, svcconf.Diagd, func(r *compile.Result, _ *revealer) any { return r.Diag }},
	{svcconf.Pushd, svcconf.Pushd, func(r *compile.Result, v *revealer) any { return v.push(r.Push) }},
	{svcconf.Exportd, svcconf.Webuid, func(r *compile.Result, v *revealer) any { return v.export(r.Export) }}, // alerts are tried out over HTTPS
}

// directory makes the service's directory, or mends it.
func (a audience) directory(run string) error {
	_, err := privdrop.Dir(run, a.owner.Name, a.owner.ID, a.reader.ID)
	return err
}

// prepare makes the services' directories, so that there is something to watch
// before the services are there, and those in which they speak to others than the
// readers of that: the sockets of their metrics, to webuid, and what dhcpd has heard,
// to flowd.
func (r *Reconciler) prepare() {
	say := func(owner svcconf.User, err error) {
		if err != nil {
			r.o.Log.Error("prepare a service's directory", "service", owner.Name, "err", err)
		}
	}
	for _, owner := range append([]svcconf.User{{Name: "netcfgd"}, svcconf.Updated}, svcconf.Users...) {
		_, err := privdrop.Dir(metrics.Dir(r.o.Run), owner.Name, owner.ID, svcconf.Webuid.ID)
		say(owner, err)
	}
	_, err := privdrop.Dir(filepath.Join(r.o.Run, svcconf.HeardDir), svcconf.Dhcpd.Name, svcconf.Dhcpd.ID, svcconf.Flowd.ID)
	say(svcconf.Dhcpd, err)
	for _, a := range audiences {
		say(a.owner, a.directory(r.o.Run))
	}
}

// tell gives each service its configuration, and the secrets that are for it.
func (r *Reconciler) tell(out *outcome) {
	if err := r.o.Secrets.Lost(); err != nil {
		out.trouble("%w; set them anew: bulkhead secret set", err)
	}
	r.prepareExport(out)
	for _, a := range audiences {
		err := a.directory(r.o.Run)
		var digest string
		if err == nil {
			v := &revealer{store: r.o.Secrets}
			digest, err = hand(r.o.Run, a.owner, a.conf(out.result, v))
			err = errors.Join(append(v.errs, err)...)
		}
		if err != nil {
			out.trouble("configure %s: %w", a.owner.Name, err)
		}
		r.handed[a.owner.Name] = digest
	}
}

// untaken lists the services that have not acknowledged what was handed to them.
func untaken(run string, handed map[string]string) []string {
	var names []string
	for _, a := range audiences {
		name := a.owner.Name
		ack, err := file.Read(filepath.Join(run, name, svcconf.AckFile), maxAck)
		if err != nil || strings.TrimSpace(string(ack)) != handed[name] {
			names = append(names, name)
		}
	}
	return names
}

// hand writes a service's configuration, readable by it alone, unless it is there
// already, and returns its digest. The directory is the service's: root neither
// follows nor overwrites what the service may have put there.
func hand(run string, user svcconf.User, conf any) (digest string, err error) {
	data, err := json.MarshalIndent(conf, "", "\t")
	if err != nil {
		return "", err
	}
	data = append(data, '\n')
	digest = digestOf(data)
	path := filepath.Join(run, user.Name, svcconf.ConfigFile)
	if old, err := file.Read(path, maxConfig); err == nil && bytes.Equal(old, data) {
		return digest, nil
	}
	group := -1
	if os.Geteuid() == 0 {
		group = user.ID
	}
	return digest, file.Replace(path, data, 0o640, group)
}

func digestOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// leasesFile is the leases as dhcpd leaves them. There may be many, so what was read
// is kept until the file is another. It may be read by several goroutines; nobody
// may change what they get.
type leasesFile struct {
	path string

	mu   sync.Mutex
	info fs.FileInfo // of what was read; nil: nothing was
	list []svcconf.Lease
	err  error // what is wrong with it
}

// read returns the leases that dhcpd has given; none if it has not said.
func (l *leasesFile) read() ([]svcconf.Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := file.Stat(l.path)
	if err == nil && l.info != nil && os.SameFile(info, l.info) && info.ModTime().Equal(l.info.ModTime()) && info.Size() == l.info.Size() {
		return l.list, l.err
	}
	l.info, l.list, l.err = nil, nil, nil
	if err == nil {
		l.list, err = decodeLeases(l.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	l.info, l.err = info, err
	return l.list, l.err
}

func decodeLeases(path string) ([]svcconf.Lease, error) {
	data, err := file.Read(path, maxLeases)
	if err != nil {
		return nil, err
	}
	var v svcconf.Leases // reads strictly
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", svcconf.LeasesFile, err)
	}
	return v.Leases, nil
}

// leaseFile is the uplink's lease as wand leaves it. How long it holds is counted
// from when it was first seen: the clock on the wall may be set at any time, as it is
// after every boot without a battery.
type leaseFile struct {
	path string
	data []byte
	told *facts.Lease // what data says
	end  time.Time    // monotonic; zero: never
}

// read returns the lease in force, without an end by the clock, or nil.
func (l *leaseFile) read(wall time.Time) (*facts.Lease, error) {
	data, err := file.Read(l.path, maxUplink)
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
			l.end = time.Now().Add(remaining(v, wall))
		}
	}
	if _, ok := l.left(); !ok && !l.end.IsZero() {
		return nil, nil
	}
	force := *v
	force.Expires = time.Time{} // as above
	return &force, nil
}

// remaining is how long a lease holds that is seen for the first time. It may have
// been obtained before this process began; the times in it say how long ago, unless
// the clock was set since, so that it is not between them.
func remaining(l *facts.Lease, wall time.Time) time.Duration {
	if wall.Before(l.Obtained) || !wall.Before(l.Expires) {
		return l.Expires.Sub(l.Obtained)
	}
	return l.Expires.Sub(wall)
}

// left returns how long the lease holds, and false if it is over or has no end.
func (l *leaseFile) left() (time.Duration, bool) {
	d := time.Until(l.end)
	return d, !l.end.IsZero() && d > 0
}

// decodeLease reads what wand wrote. Wand talks to strangers: what it says is taken
// for no more than an address that the box may have. Errors do not quote it: they
// would differ each time that it differs, and be told anew.
func decodeLease(data []byte) (*facts.Lease, error) {
	var v facts.Lease
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%s: not a lease", svcconf.UplinkFile)
	}
	bad := func(a netip.Addr) bool {
		return !a.Is4() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.As4()[0] >= 240
	}
	switch {
	case !v.Address.IsValid() || bad(v.Address.Addr()) || v.Address.Bits() < 8:
		return nil, fmt.Errorf("%s: its address is none for the box", svcconf.UplinkFile)
	case v.Gateway.IsValid() && bad(v.Gateway):
		return nil, fmt.Errorf("%s: its gateway is none", svcconf.UplinkFile)
	}
	v.Resolvers = slices.DeleteFunc(v.Resolvers, bad)
	v.Resolvers = v.Resolvers[:min(len(v.Resolvers), maxResolvers)]
	return &v, nil
}
