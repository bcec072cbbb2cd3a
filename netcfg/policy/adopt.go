package policy

import (
	"slices"

	"bulkhead/netcfg/model"
)

// Adopt returns a test of another configuration as if this one had stated it: about
// the zones, devices and addresses that go by the same names here. It reports false if
// one of them does not exist.
func (p *Policy) Adopt(t *model.Test) (*model.Test, bool) {
	adopted := *t
	var ok1, ok2 bool
	adopted.From, ok1 = p.adopt(t.From)
	adopted.To, ok2 = p.adopt(t.To)
	return &adopted, ok1 && ok2
}

func (p *Policy) adopt(foreign []model.Endpoint) ([]model.Endpoint, bool) {
	list := slices.Clone(foreign)
	for i := range list {
		e := &list[i]
		switch e.Kind {
		case model.KindZone:
			e.Zone = p.Config.Zone(e.Zone.Name)
		case model.KindDevice:
			if e.Device = p.Config.Device(e.Device.Name); e.Device == nil {
				return nil, false
			}
			e.Zone = e.Device.Zone
		case model.KindPrefix:
			wasInZone := e.Zone != nil
			e.Zone = p.Config.ZoneOf(e.Prefix.Addr())
			if wasInZone && e.Zone == nil {
				return nil, false
			}
			continue
		default:
			continue
		}
		if e.Zone == nil {
			return nil, false
		}
	}
	return list, true
}
