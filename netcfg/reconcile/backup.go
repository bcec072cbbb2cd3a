//go:build linux

package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
	"bulkhead/services/file"
)

// How long dhcpd may take to put the leases of a backup on the disk, and how often is
// looked whether it has.
const (
	adoptPatience = 5 * time.Second
	adoptEvery    = 20 * time.Millisecond
)

// keysPatience is how long updated may take to tell its keys.
const keysPatience = 5 * time.Second

// Ports implements [api.Keeper].
func (r *Reconciler) Ports(ctx context.Context) (list []api.Port, err error) {
	list = []api.Port{}
	ask := r.do(ctx, func() {
		var links []facts.Link
		if links, _, err = r.o.Kernel.Facts(); err != nil {
			return
		}
		for _, l := range links {
			mac, bad := model.ParseMAC(l.MAC)
			if !socket(l) || bad != nil {
				continue
			}
			p := api.Port{Name: l.Name, MAC: mac, Driver: driver(l.Name), Carrier: l.Carrier}
			if l.Carrier {
				p.Speed = speed(l.Name)
			}
			for _, c := range r.target.cfg.Ports {
				if c.MAC == mac && !r.target.setup {
					p.Use = c.Name
					up := r.target.cfg.Uplink
					p.Uplink = up != nil && up.Port.Name == c.Name
				}
			}
			list = append(list, p)
		}
	})
	return list, errors.Join(ask, err)
}

// driver returns the name of a port's driver, by which its owner may know the hardware;
// "" if it has none, as in namespaces.
func driver(link string) string {
	to, err := os.Readlink(filepath.Join("/sys/class/net", link, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// speed returns how fast a port is, in Mbit/s, or 0 if its driver does not say.
func speed(link string) int {
	data, err := os.ReadFile(filepath.Join("/sys/class/net", link, "speed"))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return max(n, 0) // -1 is unknown
}

// Backup implements [api.Keeper]. What it gathers is in the clear in memory for a
// moment, and leaves it for nobody but the owner's keys.
func (r *Reconciler) Backup(ctx context.Context, in api.NewBackup) (*api.Backup, error) {
	defer debug.FreeOSMemory() // see Apply
	ports, err := r.Ports(ctx)
	if err != nil {
		return nil, err
	}
	var b *backup.Backup
	var to []secrets.Recipient
	ask := r.do(ctx, func() {
		if b, err = r.gather(); err == nil {
			to, err = r.readers(in.Recipients)
		}
	})
	if err := errors.Join(ask, err); err != nil {
		return nil, err
	}
	for _, p := range ports {
		b.Ports = append(b.Ports, backup.Port{Name: p.Name, MAC: p.MAC})
	}
	if err := r.addLeases(b); err != nil {
		return nil, err
	}
	r.addKeys(ctx, b)
	data, err := backup.Encode(b)
	if err == nil {
		data, err = secrets.Encrypt(data, to)
	}
	if err != nil {
		return nil, fmt.Errorf("make the backup: %w", err)
	}
	out := &api.Backup{Box: b.Box, Time: b.Time, Data: data, LeftOut: b.LeftOut}
	for _, k := range to {
		out.To = append(out.To, k.Name)
	}
	// Whoever may ask for it may have it encrypted to a key of their own.
	r.o.Log.Info("backup made", "author", in.Author, "to", out.To, "bytes", len(data))
	return out, nil
}

// gather returns what is kept in the store.
func (r *Reconciler) gather() (*backup.Backup, error) {
	config, err := r.o.Store.Confirmed()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, api.Tell(api.ErrNothing, errors.New("there is nothing to back up: "+errNone.Error()))
	case err != nil:
		return nil, err
	}
	kept, err := r.o.Secrets.Export()
	if err != nil {
		return nil, api.BadSecret(fmt.Errorf("a backup would lack them: %w", err))
	}
	t := &r.target
	if r.trial != nil {
		t = &r.trial.target
	}
	b := &backup.Backup{
		Manifest: backup.Manifest{Time: r.o.Wall().UTC().Truncate(time.Second), Box: t.cfg.System.Name, File: confirmedName},
		Config:   config, Secrets: kept, Devices: maps.Clone(r.pins),
	}
	if h := r.newest(); h != nil && h.Name != "" {
		b.File = h.Name
	}
	if len(r.isolated) > 0 {
		if b.Isolated, err = json.Marshal(r.isolated); err != nil {
			return nil, err
		}
	}
	changes, older := r.o.Store.Sealed(backup.MaxHistory)
	for _, c := range changes {
		b.History = append(b.History, backup.Change{Number: c.Number, Data: c.Data})
	}
	if older > 0 {
		b.LeftOut = append(b.LeftOut, fmt.Sprintf("the %d oldest changes of the history: there is no room for them, or one is damaged", older))
	}
	return b, nil
}

// readers are those who can read a backup: never the box alone, which may be what is
// lost.
func (r *Reconciler) readers(keys []string) ([]secrets.Recipient, error) {
	list := r.o.Secrets.Recipients()
	for _, key := range keys {
		k, err := secrets.NewRecipient(key, "this backup only")
		if err != nil {
			return nil, api.BadSecret(err)
		}
		if !slices.ContainsFunc(list, func(o secrets.Recipient) bool { return o.ID == k.ID }) {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return nil, api.BadSecret(errors.New("nobody could read it: add a public key of yours first: bulkhead secret recipients add KEY NAME"))
	}
	if len(list) > secrets.MaxRecipients {
		return nil, api.BadSecret(fmt.Errorf("that makes %d keys; the limit is %d", len(list), secrets.MaxRecipients))
	}
	return list, nil
}

// addLeases adds the leases in force. Without room for all of them they are worth less
// than nothing: clients of those that lack would lose their addresses to others.
func (r *Reconciler) addLeases(b *backup.Backup) error {
	leases, err := r.leases.read()
	if err != nil {
		b.LeftOut = append(b.LeftOut, fmt.Sprintf("the leases: %v", err))
		return nil
	}
	data, err := json.Marshal(leases)
	if err != nil {
		return err
	}
	if len(data) > backup.MaxLeases {
		b.LeftOut = append(b.LeftOut, fmt.Sprintf("the leases: there is no room for %d", len(leases)))
		return nil
	}
	b.Leases = leases
	return nil
}

// addKeys adds the keys that sign images, which are updated's.
func (r *Reconciler) addKeys(ctx context.Context, b *backup.Backup) {
	if r.o.Updates == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	keys, err := r.o.Updates.Keys(ctx)
	if err != nil {
		b.LeftOut = append(b.LeftOut, fmt.Sprintf("the keys that sign images: updated does not tell them: %v", err))
		return
	}
	for _, k := range keys.Keys {
		b.Keys = append(b.Keys, backup.UpdateKey{Name: k.Name, Key: k.Key.String()})
	}
}

// Restore implements [api.Keeper]. It checks all of it before it takes any; what it has
// taken when the power goes is no harm, and taken once more by the next attempt.
func (r *Reconciler) Restore(ctx context.Context, in api.Restore) (*api.Restored, error) {
	defer debug.FreeOSMemory() // see Apply
	b, err := backup.Decode(in.Data)
	if err != nil {
		return nil, api.Tell(api.ErrSecret, err)
	}
	out := new(api.Restored)
	for _, name := range b.Others {
		out.Notes = append(out.Notes, fmt.Sprintf("%s: this Bulkhead is too old for it", name))
	}
	ask := r.do(ctx, func() {
		if err = r.ready(); err == nil {
			err = r.takeOver(b, in, out)
		}
	})
	if err := errors.Join(ask, err); err != nil {
		return nil, err
	}
	if len(b.Leases) > 0 {
		if err := r.restoreLeases(ctx, b.Leases); err != nil {
			out.Notes = append(out.Notes, fmt.Sprintf("the leases: %v", err))
		} else {
			out.Leases = len(b.Leases)
		}
	}
	r.o.Log.Info("backup taken over", "author", in.Author, "of", b.Box, "time", b.Time, "secrets", len(out.Secrets), "leases", out.Leases, "changes", out.Changes)
	return out, nil
}

// takeOver takes over what is kept in the store. What can be refused comes before what
// cannot.
func (r *Reconciler) takeOver(b *backup.Backup, in api.Restore, out *api.Restored) error {
	var isolated []isolation
	if b.Isolated != nil {
		if err := json.Unmarshal(b.Isolated, &isolated); err != nil {
			return api.BadSecret(errors.New("who is isolated makes no sense in the backup"))
		}
	}
	changes := make([]txn.Sealed, len(b.History))
	for i, c := range b.History {
		changes[i] = txn.Sealed{Number: c.Number, Data: c.Data}
	}
	n, err := r.o.Store.Import(changes)
	switch {
	case errors.Is(err, txn.ErrHistory):
		out.Notes = append(out.Notes, "the history: this box has one of its own, which nothing can come before")
	case errors.Is(err, txn.ErrUnsealed):
		return api.Tell(api.ErrSecret, fmt.Errorf("the history of the backup does not verify: %w", err))
	case err != nil:
		return fmt.Errorf("keep the history of the backup: %w", err)
	}
	out.Changes = n
	if b.Secrets != nil {
		taken, err := r.importSecrets(b.Secrets, in.Replace)
		if err != nil {
			return err
		}
		out.Secrets = taken
	}
	pins := maps.Clone(r.pins)
	if pins == nil {
		pins = map[string]netip.Addr{}
	}
	for name, a := range b.Devices {
		if _, ok := pins[name]; !ok && a.Is4() && !slices.Contains(slices.Collect(maps.Values(pins)), a) {
			pins[name] = a
			out.Devices++
		}
	}
	if out.Devices > 0 {
		if err := r.o.Store.Save(pinsFile, pins); err != nil {
			return fmt.Errorf("keep the addresses given to devices: %w", err)
		}
		r.pins = pins
	}
	return r.takeIsolated(isolated, in.Origin, out)
}

// takeIsolated keeps the machines from everybody that the other box kept from them: what
// was found to be a danger there is one here. It does not isolate who restores it.
func (r *Reconciler) takeIsolated(list []isolation, from api.Origin, out *api.Restored) error {
	next := slices.Clone(r.isolated)
	for _, i := range list {
		switch {
		case slices.ContainsFunc(next, i.same), i.MAC.IsZero() && len(i.Addresses) == 0:
		case len(next) == maxIsolated:
			out.Notes = append(out.Notes, fmt.Sprintf("the isolation of %s: %d machines are isolated already, which is the limit", i.Machine, maxIsolated))
		default:
			next = append(next, i)
			out.Isolated++
		}
	}
	if out.Isolated == 0 {
		return nil
	}
	// Without a configuration there is no way in to guard: the one that comes has its own.
	if err := r.guardIsolation(next, api.Isolate{Origin: from, AcceptLockout: r.target.setup}, r.clock.now()); err != nil {
		out.Notes, out.Isolated = append(out.Notes, fmt.Sprintf("who is isolated: %v", err)), 0
		return nil
	}
	if err := r.o.Store.Save(isolatedFile, next); err != nil {
		return fmt.Errorf("keep who is isolated: %w", err)
	}
	r.isolated = next
	return nil
}

// setAside reports whether as many changes wait for a configuration that restores the
// box as its author knows of: they may be gone with a trial or a process in between.
func (r *Reconciler) setAside(want int) error {
	if want == 0 {
		return nil
	}
	switch got, err := r.o.Store.Aside(); {
	case err != nil:
		return err
	case got != want:
		return api.Tell(api.ErrNothing, fmt.Errorf("of the history of the backup, %d changes are at hand, and not %d: restore it once more", got, want))
	}
	return nil
}

// importSecrets takes over the secrets of a backup, and tells services what is new.
func (r *Reconciler) importSecrets(data []byte, replace bool) ([]string, error) {
	taken, err := r.o.Secrets.Import(data, replace)
	switch {
	case errors.Is(err, secrets.ErrConflict):
		return nil, api.BadSecret(fmt.Errorf("%w; to give them those of the backup: --replace-secrets", err))
	case errors.Is(err, secrets.ErrBad), errors.Is(err, secrets.ErrLost):
		return nil, api.BadSecret(err)
	case err != nil:
		return nil, fmt.Errorf("keep the secrets of the backup: %w", err)
	}
	if len(taken) > 0 {
		r.round()
	}
	return taken, nil
}

// restoreLeases hands leases to dhcpd, and waits until it has them on the disk.
func (r *Reconciler) restoreLeases(ctx context.Context, leases []svcconf.Lease) error {
	data, err := json.Marshal(svcconf.RestoredLeases{ID: rand.Text(), Leases: leases})
	if err != nil {
		return err
	}
	group := -1
	if os.Geteuid() == 0 {
		group = svcconf.Dhcpd.ID
	}
	path := filepath.Join(r.o.Run, svcconf.Dhcpd.Name, svcconf.RestoredFile)
	if err := file.Replace(path, data, 0o640, group); err != nil {
		return err
	}
	for end := time.Now().Add(adoptPatience); ; {
		if _, err := file.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("dhcpd has not taken them within %s; it does as soon as it can", adoptPatience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(adoptEvery):
		}
	}
}
