//go:build linux

// Package apply observes the network state of a Linux kernel and carries plans out
// on it. It is the only package that writes to the kernel, and it never decides
// what to write: plan does. Of what is there it removes only what carries
// Bulkhead's mark.
package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
	"bulkhead/services/file"
)

// rulesets is what a [Kernel] needs of [Rulesets].
type rulesets interface {
	Load(*nft.Table) (LoadedRuleset, error)
	Observe(LoadedRuleset) (state.Ruleset, error)
	Close() error
}

// Kernel is the network state of one network namespace. Its methods may be called
// by several goroutines; changes are made one at a time.
type Kernel struct {
	// Log is told of what is no reason to fail; nil: nobody is.
	Log *slog.Logger

	netns     int // our own descriptor of the namespace; 0: that of the process
	nl        *netlink.Conn
	rules     rulesets
	vlan      bool // the kernel has 802.1Q
	flowtable bool // the kernel knows them
	statefile string
	sent      *ports // of transactions of the packet filter
	hands     hands

	mu     sync.Mutex // held while changing anything
	loaded LoadedRuleset
}

// Open returns the kernel of the network namespace that the file descriptor netns
// refers to, or for 0 that of the process. The descriptor may be closed afterwards.
//
// What was last loaded into the packet filter is kept in statefile, so that a
// process started anew knows the table for its own. Without the file the table
// counts as changed by somebody else, and is loaded once more, which disturbs no
// connection. The file belongs on a file system that does not survive a reboot.
func Open(netns int, statefile string) (*Kernel, error) {
	k := &Kernel{statefile: statefile}
	if netns != 0 {
		fd, err := unix.FcntlInt(uintptr(netns), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, fmt.Errorf("keep network namespace: %w", err)
		}
		k.netns = fd
	}
	if err := k.open(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Kernel) open() error {
	// Strict: the kernel filters dumps as asked, and says in words what it dislikes.
	nl, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: k.netns, Strict: true})
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	k.nl = nl
	k.vlan = k.hasVLAN()
	rules, err := OpenRulesets(k.netns)
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	k.rules, k.flowtable, k.sent = rules, rules.HasFlowtable(), &rules.nl.sent
	data, err := os.ReadFile(k.statefile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k.loaded)
	}
	if err != nil { // as good as none: it costs one reload
		k.loaded = LoadedRuleset{}
	}
	return nil
}

// Close lets go of the kernel and leaves its state as it is.
func (k *Kernel) Close() error {
	var errs []error
	if k.nl != nil {
		errs = append(errs, k.nl.Close())
	}
	if k.rules != nil {
		errs = append(errs, k.rules.Close())
	}
	if k.netns != 0 {
		errs = append(errs, unix.Close(k.netns))
	}
	return errors.Join(errs...)
}

// Do carries out one step. It is idempotent: a step that is done already, by an
// earlier call or by somebody else, is left at that.
//
// The error wraps [fs.ErrPermission] without CAP_NET_ADMIN, and ENODEV if a link
// is gone that the step would have changed, which callers take as a reason to plan
// again. Taking something from a link that is gone is no error.
func (k *Kernel) Do(step plan.Step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch c := step.Change.(type) {
	case plan.CreateLink:
		return k.createLink(c.Link)
	case plan.DeleteLink:
		return k.deleteLink(c.Link)
	case plan.SetUp:
		return k.setUp(c.Link, c.Up)
	case plan.SetMTU:
		return k.setMTU(c.Link, c.To)
	case plan.SetAlias:
		return k.setAlias(c.Link, c.To)
	case plan.AddAddr:
		return k.addAddr(c.Addr)
	case plan.DeleteAddr:
		return k.deleteAddr(c.Addr)
	case plan.AddRoute:
		return k.addRoute(c.Route)
	case plan.DeleteRoute:
		return k.deleteRoute(c.Route)
	case plan.ReplaceRoute:
		return k.replaceRoute(c.To)
	case plan.SetSysctl:
		return k.setSysctl(c.Key, c.To)
	case plan.LoadRuleset:
		return k.loadRuleset(c.To)
	}
	return fmt.Errorf("do not know how to carry out %T", step.Change)
}

// loadRuleset loads a table, or removes ours if the ruleset is none.
func (k *Kernel) loadRuleset(r state.Ruleset) error {
	if r.Present() && !r.Known() {
		// Such a step has been through JSON, or is the undo of one that replaced an
		// unknown table. Loading what is left of the table would open everything.
		return fmt.Errorf("load ruleset %.12s: its content is not at hand", r.Digest)
	}
	if !r.Present() {
		r.Table = nil
	}
	loaded, err := k.rules.Load(r.Table)
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	k.loaded = loaded
	k.remember()
	return nil
}

// remember writes down what was loaded. The kernel has it already, and the next
// process that cannot read it loads it once more: failing here would undo what
// is done, for nothing.
func (k *Kernel) remember() {
	data, err := json.Marshal(k.loaded)
	if err == nil {
		err = file.Replace(k.statefile, data, 0o600, -1)
	}
	if err != nil && k.Log != nil {
		k.Log.Warn("the ruleset will be loaded anew after a restart", "err", err)
	}
}

// inside calls f on a thread that is in the kernel's network namespace.
func (k *Kernel) inside(f func() error) error { return inside(k.netns, f) }

func inside(netns int, f func() error) error {
	if netns == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, so that nothing
		// else can run in the wrong namespace by mistake.
		runtime.LockOSThread()
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// dump asks for a list of objects of one kind. Dumps that the kernel marks as
// inconsistent, since something changed meanwhile, are asked for again.
func (k *Kernel) dump(kind uint16, request []byte) ([]netlink.Message, error) {
	const attempts = 10
	for range attempts {
		msgs, err := k.nl.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Dump},
			Data:   request,
		})
		if err != nil {
			return nil, err
		}
		if !interrupted(msgs) {
			return msgs, nil
		}
	}
	return nil, fmt.Errorf("list changes all the time: %w", unix.EAGAIN)
}

func interrupted(msgs []netlink.Message) bool {
	for _, m := range msgs {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return true
		}
	}
	return false
}

// message is a request of package rtnetlink.
type message interface{ MarshalBinary() ([]byte, error) }

// execute sends a request that changes something and waits for the kernel's word.
func (k *Kernel) execute(kind uint16, flags netlink.HeaderFlags, m message) error {
	data, err := m.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = k.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}
