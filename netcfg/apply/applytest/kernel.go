// Package applytest is a kernel for tests of those who use package apply: it keeps
// its state in memory, needs no rights, and does what plan says that Linux does.
// Tests of apply itself hold that to real kernels. Only tests import it.
package applytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// ErrNoDevice stands for ENODEV.
var ErrNoDevice = errors.New("no such device")

// Kernel is a kernel in memory, with the methods of apply.Kernel. It may be used by
// several goroutines. The zero value has no network cards.
type Kernel struct {
	// Fail is asked before each step is carried out; a step for which it returns an
	// error is not. nil: none fails. It must not call the Kernel.
	Fail func(plan.Step) error
	// Cards are what Facts tells.
	Cards []facts.Link
	// VLAN says that the kernel has 802.1Q.
	VLAN bool

	mu       sync.Mutex
	state    state.State
	steps    []plan.Step
	watchers []chan struct{}
}

// New returns a kernel with network cards of the given names, all switched off, and
// with MACs 52:54:00:00:00:01 and so on.
func New(cards ...string) *Kernel {
	k := &Kernel{VLAN: true}
	for i, name := range cards {
		k.Cards = append(k.Cards, facts.Link{Name: name, MAC: fmt.Sprintf("52:54:00:00:00:%02x", i+1)})
		k.state.Links = append(k.state.Links, state.Link{Name: name, MTU: 1500})
	}
	return k
}

// Observe returns what Bulkhead answers for, as apply.Kernel does. A setting that
// nobody has made is "0", and "" if it belongs to a link that does not exist.
func (k *Kernel) Observe(want state.State) (state.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := clone(k.state)
	s.Addrs = slices.DeleteFunc(s.Addrs, func(a state.Addr) bool {
		ours := func(l state.Link) bool { return l.Name == a.Link && l.Managed() }
		return !slices.ContainsFunc(k.state.Links, ours) && !slices.ContainsFunc(want.Links, ours)
	})
	s.Sysctls = nil
	for _, w := range want.Sysctls {
		s.Sysctls = append(s.Sysctls, state.Sysctl{Key: w.Key, Value: k.sysctl(w.Key)})
	}
	return s, nil
}

func (k *Kernel) sysctl(key string) string {
	i := slices.IndexFunc(k.state.Sysctls, func(s state.Sysctl) bool { return s.Key == key })
	if i >= 0 {
		return k.state.Sysctls[i].Value
	}
	if name := plan.LinkOfSysctl(key); name != "" && !k.has(name) {
		return ""
	}
	return "0"
}

func (k *Kernel) has(link string) bool {
	return slices.ContainsFunc(k.state.Links, func(l state.Link) bool { return l.Name == link })
}

// Do carries a step out, or returns what Fail says. Like Linux it refuses to change
// links that do not exist, and to take routes or VLANs on links that cannot have any.
func (k *Kernel) Do(s plan.Step) error {
	if k.Fail != nil {
		if err := k.Fail(s); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.check(s.Change); err != nil {
		return fmt.Errorf("%s: %w", s.Sentence, err)
	}
	// Settings that the model is to follow must be known to it.
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/accept_redirects"} {
		if !slices.ContainsFunc(k.state.Sysctls, func(s state.Sysctl) bool { return s.Key == key }) {
			k.state.Sysctls = append(k.state.Sysctls, state.Sysctl{Key: key, Value: "0"})
		}
	}
	k.state = plan.After(k.state, s.Change)
	k.steps = append(k.steps, s)
	k.notify()
	return nil
}

func (k *Kernel) check(c plan.Change) error {
	up := func(name string) bool {
		return slices.ContainsFunc(k.state.Links, func(l state.Link) bool { return l.Name == name && l.Up })
	}
	lost := func(name string) error {
		if k.has(name) {
			return nil
		}
		return fmt.Errorf("%s: %w", name, ErrNoDevice)
	}
	switch c := c.(type) {
	case plan.CreateLink:
		if !k.VLAN {
			return errors.New("operation not supported")
		}
		return lost(c.Link.Parent)
	case plan.SetUp:
		return lost(c.Link)
	case plan.SetMTU:
		return lost(c.Link)
	case plan.SetAlias:
		return lost(c.Link)
	case plan.AddAddr:
		return lost(c.Addr.Link)
	case plan.AddRoute:
		if !up(c.Route.Link) {
			return errors.New("network is down")
		}
	case plan.ReplaceRoute:
		if !up(c.To.Link) {
			return errors.New("network is down")
		}
	}
	return nil
}

// Steps returns the steps carried out so far.
func (k *Kernel) Steps() []plan.Step {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.steps)
}

// State returns all there is, foreign things included.
func (k *Kernel) State() state.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return clone(k.state)
}

// Meddle lets somebody else change things, and tells watchers.
func (k *Kernel) Meddle(f func(*state.State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.state)
	k.notify()
}

// Facts returns Cards and VLAN.
func (k *Kernel) Facts() ([]facts.Link, facts.Kernel, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.Cards), facts.Kernel{VLAN: k.VLAN}, nil
}

// Watch returns a channel on which a value stands after something has changed, and
// which is closed after ctx ends.
func (k *Kernel) Watch(ctx context.Context) (<-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := make(chan struct{}, 1)
	k.watchers = append(k.watchers, c)
	context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.watchers = slices.DeleteFunc(k.watchers, func(o chan struct{}) bool { return o == c })
		close(c)
	})
	return c, nil
}

// Neighbours knows of nobody.
func (k *Kernel) Neighbours() (map[netip.Addr]model.MAC, error) { return nil, nil }

// Culprit knows of nobody.
func (k *Kernel) Culprit(plan.Finding) string { return "" }

func (k *Kernel) notify() {
	for _, c := range k.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func clone(s state.State) state.State {
	s.Links, s.Addrs = slices.Clone(s.Links), slices.Clone(s.Addrs)
	s.Routes, s.Sysctls = slices.Clone(s.Routes), slices.Clone(s.Sysctls)
	return s
}
