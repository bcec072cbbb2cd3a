package api

import (
	"slices"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Contacts are what a device, or whatever else has a name or an address, may open
// connections to, and who may open some to it.
type Contacts struct {
	Of   string    `json:"of"`
	To   []Verdict `json:"to"`
	From []Verdict `json:"from"`
}

// anything stands for all services.
var anything = []model.Service{{Any: true}}

// ContactsOf asks a policy about all that go out from endpoints and come in to them. What is
// not allowed is left out, but for exceptions from what is.
func ContactsOf(p *policy.Policy, of []model.Endpoint) *Contacts {
	c := &Contacts{To: []Verdict{}, From: []Verdict{}}
	for _, e := range of {
		here := []model.Endpoint{e}
		out, in := p, p
		if hosts := p.Hosts(e); len(hosts) == 1 { // there may be thousands of rules of others
			out, in = p.From(hosts[0].Party, hosts[0].Addr), p.To(hosts[0].Party, hosts[0].Addr)
		}
		for _, party := range parties(p.Config) {
			c.To = append(c.To, allowed(Explain(out, here, party, anything))...)
			c.From = append(c.From, allowed(Explain(in, party, here, anything))...)
		}
	}
	return c
}

// parties are the zones in the order of the file, the internet and the box.
func parties(cfg *model.Config) (list [][]model.Endpoint) {
	for _, z := range cfg.Zones {
		list = append(list, []model.Endpoint{{Kind: model.KindZone, Zone: z}})
	}
	return append(list, []model.Endpoint{{Kind: model.KindInternet}}, []model.Endpoint{{Kind: model.KindBox}})
}

// allowed leaves out of verdicts between two endpoints what is denied, as all is that nobody
// allows. It keeps what is denied to some of those to whom it is allowed as a whole.
func allowed(verdicts []Verdict) []Verdict {
	if len(verdicts) == 0 {
		return nil
	}
	first := verdicts[0]
	whole := func(v Verdict) bool { return v.From == first.From && v.To == first.To }
	some := slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.Allow && whole(v) })
	return slices.DeleteFunc(verdicts, func(v Verdict) bool {
		return !v.Allow && (!some || whole(v) || slices.Equal(v.Services, []string{everythingElse}))
	})
}
