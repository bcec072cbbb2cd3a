// Package compile turns a configuration and the facts into what follows from them:
// the state that the kernel should be in, and each service's slice of the
// configuration.
//
// It is pure: same input, same output, no clock, no files, no kernel. What the
// policy means is not decided here but in package policy; compile only says it in
// the kernel's words.
package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// Result is everything that follows from a configuration and the facts.
type Result struct {
	Policy *policy.Policy
	State  state.State
	DHCP   svcconf.DHCP
	DNS    svcconf.DNS
	WAN    svcconf.WAN
	Web    svcconf.Web
	Update svcconf.Update
	Diag   svcconf.Diag
	Push   svcconf.Push
	Flow   svcconf.Flow
	Export svcconf.Export
	// Missing says in a sentence each what could not be set up because the box
	// lacks something. All the rest works.
	Missing []string
}

// Options changes what Compile makes of a configuration.
type Options struct {
	// Closed keeps forwarding off whatever the rules say.
	Closed bool
	// AllPorts brings every port up, also those that nothing uses, so that a cable
	// in them shows.
	AllPorts bool
}

// Compile works out what follows from a configuration and the facts.
func Compile(cfg *model.Config, f facts.Facts) *Result { return Options{}.Compile(cfg, f) }

// Compile works out what follows from a configuration and the facts.
func (o Options) Compile(cfg *model.Config, f facts.Facts) *Result {
	c := &compiler{cfg: cfg, facts: f, closed: o.Closed, links: map[string]string{}}
	c.resolvers = resolvers(cfg, f)
	c.policy = policy.New(cfg, policy.Env{
		Now: f.Now, Uplink: c.uplink(), Resolvers: addresses(c.resolvers), Devices: f.Devices, Isolated: isolated(f),
	})
	r := &Result{Policy: c.policy}
	c.compiled = c.compileLinks(o.AllPorts)
	r.State.Links = c.compiled
	r.State.Addrs = c.compileAddrs()
	r.State.Routes = c.compileRoutes()
	r.State.Sysctls = c.compileSysctls()
	r.State.Ruleset = c.compileRuleset()
	r.DHCP, r.DNS, r.WAN = c.compileDHCP(), c.compileDNS(), c.compileWAN()
	r.Web, r.Update, r.Push, r.Flow = c.compileWeb(), c.compileUpdate(), c.compilePush(), c.compileFlow()
	r.Diag = c.compileDiag()
	r.Export = c.compileExport()
	r.Missing = c.missing
	return r
}

// compiler holds what the parts of one compilation share.
type compiler struct {
	cfg       *model.Config
	facts     facts.Facts
	policy    *policy.Policy
	resolvers []model.Resolver
	closed    bool
	compiled  []state.Link      // all that are needed
	links     map[string]string // party to kernel link; parties without one have no entry
	missing   []string
}

// lease is what the uplink has, whether given or written in the file; nil if it
// has nothing.
func (c *compiler) lease() *facts.Lease {
	u := c.cfg.Uplink
	switch {
	case u == nil || u.IPv4.Mode == model.ModeNone:
		return nil
	case u.IPv4.Mode == model.ModeStatic:
		return &facts.Lease{Address: u.IPv4.Address, Gateway: u.IPv4.Gateway, Resolvers: u.IPv4.Resolvers}
	case c.facts.Uplink == nil || !c.facts.Uplink.Expires.IsZero() && !c.facts.Now.Before(c.facts.Uplink.Expires):
		return nil
	case c.trespasser(c.facts.Uplink) != nil:
		return nil
	}
	return c.facts.Uplink
}

// trespasser returns the zone that a lease reaches into, with its network or with
// its gateway, or nil. A provider that hands out 192.168.10.0/24, or a gateway in
// there, must not take over what is the management zone's.
func (c *compiler) trespasser(l *facts.Lease) *model.Zone {
	i := slices.IndexFunc(c.cfg.Zones, func(z *model.Zone) bool {
		return z.Subnet.Overlaps(l.Address.Masked()) || z.Subnet.Contains(l.Gateway)
	})
	if i < 0 {
		return nil
	}
	return c.cfg.Zones[i]
}

func (c *compiler) uplink() netip.Prefix {
	if l := c.lease(); l != nil {
		return l.Address
	}
	return netip.Prefix{}
}

// resolvers returns what dnsd asks: the file's, or else what the uplink offers.
func resolvers(cfg *model.Config, f facts.Facts) []model.Resolver {
	if len(cfg.Resolvers) > 0 {
		return cfg.Resolvers
	}
	c := compiler{cfg: cfg, facts: f}
	l := c.lease()
	if l == nil {
		return nil
	}
	var list []model.Resolver
	for _, a := range l.Resolvers {
		// What the provider names must not open a zone to the box's resolver;
		// the file may.
		if a.Is4() && cfg.ZoneOf(a) == nil {
			list = append(list, model.Resolver{Addr: netip.AddrPortFrom(a, 53)})
		}
	}
	return list
}

func addresses(resolvers []model.Resolver) []netip.AddrPort {
	var list []netip.AddrPort
	for _, r := range resolvers {
		if r.Addr.IsValid() { // not one that is still a secret
			list = append(list, r.Addr)
		}
	}
	return list
}

func (c *compiler) miss(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(c.missing, s) {
		c.missing = append(c.missing, s)
	}
}
