package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/webui/remote"
)

// client returns a client of netcfgd: on this machine, or on the box that --box names.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	if a.box == "" {
		return api.NewClient(a.socket), nil
	}
	c, err := a.remote(ctx)
	if err != nil {
		return nil, err
	}
	return c.Client, nil
}

// remote returns a client of the box that --box names, for what there is only over
// HTTPS. Without --box it is the only box that was claimed from here.
func (a *app) remote(ctx context.Context) (*remote.Client, error) {
	p, err := a.profile(ctx)
	if err != nil {
		return nil, err
	}
	return remote.New(p), nil
}

// profile finds the box, also where it has gone since it was last seen. A token in the
// environment comes before the one that is kept.
func (a *app) profile(ctx context.Context) (*remote.Profile, error) {
	all, err := remote.Open()
	if err != nil {
		return nil, err
	}
	switch p, err := remote.FromEnvironment(a.box, all); {
	case errors.Is(err, remote.ErrEnvironment):
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	case p != nil || err != nil:
		return p, err
	}
	box := a.box
	if names := all.Names(); box == "" && len(names) == 1 {
		box = names[0]
	}
	if box == "" {
		return nil, fmt.Errorf("%w: name the box with --box", errUsage)
	}
	p, err := all.Find(box)
	if err != nil {
		return nil, err
	}
	a.warnCertificate(p)
	if len(p.Also) == 0 {
		return p, nil
	}
	if err := p.Locate(ctx); err != nil {
		return nil, err
	}
	return p, all.Save(p)
}

// configOf returns what a file says, or nil: one with problems is for the box to
// refuse, which may be newer than this program.
func (a *app) configOf(f api.File) *model.Config {
	cfg, _ := conf.Parse(f.Name, f.Data, a.now())
	return cfg
}

// adminURLs are where the box is under a configuration.
func adminURLs(cfg *model.Config) []string {
	var urls []string
	for _, z := range adminZones(cfg) {
		urls = append(urls, "https://"+z.Gateway.String())
	}
	return urls
}

func adminZones(cfg *model.Config) []*model.Zone {
	if cfg == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(cfg.Zones), func(z *model.Zone) bool { return !z.Admin })
}

// places says in words where the box is under a configuration.
func places(cfg *model.Config) string {
	var list []string
	for _, z := range adminZones(cfg) {
		where := "port " + z.Port.Name
		if z.VLAN != 0 {
			where = fmt.Sprintf("VLAN %d of port %s", z.VLAN, z.Port.Name)
		}
		list = append(list, fmt.Sprintf("zone %s (%s, the box is %s)", z.Name, where, z.Gateway))
	}
	if list == nil {
		return "an admin zone"
	}
	return strings.Join(list, " or ")
}
