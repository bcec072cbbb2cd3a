package edit

import (
	"fmt"
	"slices"

	"bulkhead/netcfg/conf"
)

// DHCP is what a zone's DHCP server hands out, as it is written. What is empty is left to
// the defaults.
type DHCP struct {
	Off   bool
	Pool  string // 192.168.10.100-192.168.10.199
	Lease string // 12h
	NTP   []string
}

// SetDHCP has a zone's DHCP server do what h says.
func SetDHCP(zone string, h DHCP) Edit {
	return setService(zone, "dhcp", h.Off, []key{{"pool", words(h.Pool)}, {"lease", words(h.Lease)}, {"ntp", words(h.NTP...)}})
}

// DHCPOf reads what a file says of a zone's DHCP.
func DHCPOf(file []byte, zone string) (h DHCP, err error) {
	n, err := service(file, zone, "dhcp")
	if n != nil {
		h = DHCP{n.Kind == conf.Bool && n.Text == "false", text(n.Get("pool")), text(n.Get("lease")), texts(n.Get("ntp"))}
	}
	return h, err
}

// DNS is what a zone's resolver does, as it is written.
type DNS struct {
	Off   bool
	Block []string // domains that are answered as if they did not exist
	Force bool     // questions to others are answered, too
}

// SetDNS has a zone's resolver do what s says.
func SetDNS(zone string, s DNS) Edit {
	return setService(zone, "dns", s.Off, []key{{"block", listed(s.Block)}, {"force", truth(s.Force, false)}})
}

// DNSOf reads what a file says of a zone's resolver.
func DNSOf(file []byte, zone string) (s DNS, err error) {
	n, err := service(file, zone, "dns")
	if n != nil {
		s = DNS{n.Kind == conf.Bool && n.Text == "false", texts(n.Get("block")), text(n.Get("force")) == "true"}
	}
	return s, err
}

// service returns what a file says of a service of a zone; nil: nothing.
func service(file []byte, zone, name string) (*conf.Node, error) {
	d, err := read(file)
	if err != nil {
		return nil, err
	}
	if d.at("zones", zone) == nil {
		return nil, missing("zone", zone)
	}
	return d.at("zones", zone, name), nil
}

func text(n *conf.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

func texts(n *conf.Node) []string {
	if n == nil {
		return nil
	}
	return valueOf(n)
}

// setService sets the keys of a service of a zone, which may be off, or there without a word.
func setService(zone, name string, off bool, keys []key) Edit {
	path := []string{"zones", zone}
	if off {
		return present("zones", "zone", zone, setKeys(path, key{name, truth(false, true)}))
	}
	at := pathOf("zones", zone, name)
	inner := setKeys(append(path, name), keys...)
	e := Edit{
		steps: []step{func(d *doc) ([]splice, error) {
			for _, k := range keys {
				if err := k.check(fmt.Sprintf("zones.%s.%s.%s", zone, name, k.name)); err != nil {
					return nil, err
				}
			}
			m := d.at(path...)
			n := m.Get(name)
			switch {
			case n != nil && n.Kind == conf.Bool && n.Text == "true" && len(written(keys)) == 0:
				return nil, nil
			case len(written(keys)) == 0:
				return setKey(path, key{name, value{}}, nil)(d)
			case n == nil || n.Kind != conf.Mapping:
				return setKey(path, key{name, value{words: []string{inlineKeys(written(keys))}, plain: true}}, nil)(d)
			}
			return nil, nil
		}},
		means: func(list []leaf) []leaf {
			says := func(kind conf.Kind, text string) bool {
				return slices.Contains(list, leaf{pathOf(at, "#0"), kind, text})
			}
			switch {
			case says(conf.Bool, "true") && len(written(keys)) == 0:
				return list
			case len(written(keys)) == 0:
				return without(list, at)
			case says(conf.Bool, "true") || says(conf.Bool, "false"):
				list = without(list, at)
			}
			return inner.means(list)
		},
	}
	if len(written(keys)) > 0 {
		e.steps = append(e.steps, inner.steps...)
	}
	return present("zones", "zone", zone, e)
}
