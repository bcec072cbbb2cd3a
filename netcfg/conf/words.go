package conf

import (
	"fmt"
	"net/netip"
	"slices"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// Endpoints returns what a word stands for on the command line: a zone, device or
// group of the configuration, internet, box, an address or a prefix. An address of
// the box is the box, an address of a device is the device.
//
// The error says what was probably meant.
func Endpoints(cfg *model.Config, name string) ([]model.Endpoint, error) {
	switch name {
	case model.Box:
		return slices.Clone(boxEndpoint), nil
	case model.Internet:
		return slices.Clone(internetEndpoint), nil
	}
	names := []string{model.Internet, model.Box}
	for _, z := range cfg.Zones {
		if z.Name == name {
			return []model.Endpoint{{Kind: model.KindZone, Zone: z}}, nil
		}
		names = append(names, z.Name)
	}
	for _, dev := range cfg.Devices {
		if dev.Name == name {
			return []model.Endpoint{{Kind: model.KindDevice, Zone: dev.Zone, Device: dev}}, nil
		}
		names = append(names, dev.Name)
	}
	for _, g := range cfg.Groups {
		if g.Name == name {
			return slices.Clone(g.Members), nil
		}
		names = append(names, g.Name)
	}
	if looksLikeAddress(name) {
		return addressEndpoint(cfg, name)
	}
	hint := "the names are " + enumerate(names)
	if guess := nearest(name, names); guess != "" {
		hint = fmt.Sprintf("did you mean %q?", guess)
	}
	return nil, fmt.Errorf("no zone, device or group is called %q: %s", cut(name), hint)
}

func addressEndpoint(cfg *model.Config, word string) ([]model.Endpoint, error) {
	l := locator{zones: cfg.Zones, uplink: cfg.Uplink, device: func(a netip.Addr) *model.Device {
		i := slices.IndexFunc(cfg.Devices, func(d *model.Device) bool { return d.Address == a })
		if i < 0 {
			return nil
		}
		return cfg.Devices[i]
	}}
	e, p := l.locate(word)
	if e.Kind != 0 && e.Prefix.IsSingleIP() {
		if l.own(e) {
			return slices.Clone(boxEndpoint), nil
		}
		if dev := l.device(e.Prefix.Addr()); dev != nil {
			return []model.Endpoint{{Kind: model.KindDevice, Zone: dev.Zone, Device: dev}}, nil
		}
	}
	if p != nil && p.Severity == diag.Error {
		return nil, fmt.Errorf("%s: %s", p.Msg, p.Hint)
	}
	return []model.Endpoint{e}, nil
}

// Services returns what a word stands for on the command line: a protocol of the
// configuration or the catalogue, or anything else that may stand in protocols, such
// as tcp/443.
//
// The error says what was probably meant.
func Services(cfg *model.Config, name string) ([]model.Service, error) {
	var names []string
	for _, p := range cfg.Protocols {
		if p.Name == name {
			return slices.Clone(p.Services), nil
		}
		names = append(names, p.Name)
	}
	s, msg, hint := parseService(name)
	if msg == "" {
		return s, nil
	}
	if hint == "" {
		hint = "write ports such as tcp/443"
		if guess := nearest(name, append(names, model.CatalogueNames()...)); guess != "" {
			hint = fmt.Sprintf("did you mean %q?", guess)
		}
	}
	return nil, fmt.Errorf("%s: %s", msg, hint)
}
