package compile

import (
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// compileExport says what is sent out to whom. Where nobody knows the address, nothing
// is. Secrets are named, and netcfgd looks them up.
func (c *compiler) compileExport() svcconf.Export {
	x := svcconf.Export{Box: c.cfg.System.Name, Timezone: c.cfg.System.Timezone, Zones: []string{model.Internet, model.Box}}
	for _, z := range c.cfg.Zones {
		x.Zones = append(x.Zones, z.Name)
	}
	for _, e := range c.cfg.Exports {
		if to := c.peer(&e.To); to.Address.IsValid() {
			x.Exports = append(x.Exports, svcconf.ExportTarget{
				Name: e.Name, Format: e.Format, To: to, Flows: e.Flows, Refusals: e.Refusals, Events: e.Events, Secret: e.Token,
			})
		}
	}
	for _, a := range c.cfg.Alerts {
		if to := c.peer(&a.To); to.Address.IsValid() {
			x.Alerts = append(x.Alerts, svcconf.AlertTarget{
				Name: a.Name, By: a.By, To: to, Events: a.Events, User: a.User, From: a.From, Recipients: a.Recipients,
				Again: svcconf.Duration(a.Again), Limit: a.Limit, QuietFrom: a.QuietFrom, QuietTo: a.QuietTo,
				TokenSecret: a.Token, PasswordSecret: a.Password, PathSecret: a.Path,
			})
		}
	}
	return x
}

func (c *compiler) peer(p *model.Peer) svcconf.Peer {
	return svcconf.Peer{Scheme: p.Scheme, Address: c.policy.PeerAddress(p), Name: p.Name, Path: p.Path, CA: p.CA}
}
