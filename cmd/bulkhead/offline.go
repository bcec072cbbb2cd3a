package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
)

// readFile reads a configuration file, or standard input for "-". A file that is
// too large is cut just above what conf takes, so that conf says so.
func readFile(name string) (api.File, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return api.File{}, err
		}
		defer f.Close()
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return api.File{}, fmt.Errorf("%s is a directory: name a file in it", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, api.MaxFile))
	if err != nil {
		return api.File{}, err
	}
	return api.File{Name: name, Data: data}, nil
}

// parse reads and parses a file. The error is an [*api.Refused] if it has errors.
func (a *app) parse(name string) (*model.Config, diag.List, error) {
	f, err := readFile(name)
	if err != nil {
		return nil, nil, err
	}
	return a.parseFile(f)
}

func (a *app) parseFile(f api.File) (*model.Config, diag.List, error) {
	cfg, problems := conf.Parse(f.Name, f.Data, a.now())
	if cfg == nil {
		return nil, nil, &api.Refused{Problems: problems.Sorted()}
	}
	return cfg, problems.Warnings(), nil
}

// compile compiles a file for a box on which everything is there. Known are
// addresses that devices have been given before; nil: none.
func (a *app) compile(cfg *model.Config, known map[string]netip.Addr) (*compile.Result, facts.Facts) {
	f := compile.Offline(cfg, a.now())
	if known != nil {
		f.Devices = compile.Pin(cfg, known, func(netip.Addr) bool { return false })
	}
	if u := cfg.Uplink; u != nil && u.IPv4.Mode == model.ModeDHCP && f.Uplink == nil {
		f.Uplink = exampleLease(cfg)
	}
	return compile.Compile(cfg, f), f
}

// exampleLease is what the uplink may be given, so that forwards and what the
// internet sees can be judged: a network for documentation, RFC 5737.
func exampleLease(cfg *model.Config) *facts.Lease {
	for _, s := range []string{"192.0.2.2/24", "198.51.100.2/24", "203.0.113.2/24"} {
		p := netip.MustParsePrefix(s)
		if cfg.ZoneOf(p.Addr()) == nil && cfg.ZoneOf(p.Masked().Addr()) == nil {
			gateway := p.Masked().Addr().Next()
			return &facts.Lease{Address: p, Gateway: gateway, Resolvers: []netip.Addr{gateway}}
		}
	}
	return nil
}
