package inventory

import "strings"

// Filter picks devices. Fields that are not zero must hold.
type Filter struct {
	Device string // its name in the configuration, its MAC, an address, or what it calls itself
	Zone   string
	Known  *bool // it is in the configuration
}

// Match reports whether the filter picks d.
func (f *Filter) Match(d *Device) bool {
	return (f.Zone == "" || f.Zone == d.Zone) && (f.Known == nil || *f.Known == d.Known) && (f.Device == "" || d.goesBy(f.Device))
}

// goesBy reports whether people may mean the device when they say s.
func (d *Device) goesBy(s string) bool {
	if s == d.Name || strings.EqualFold(s, d.MAC.String()) {
		return true
	}
	for _, u := range d.Addresses {
		if s == u.Address.String() {
			return true
		}
	}
	for _, name := range d.Hostnames {
		if s == name {
			return true
		}
	}
	return false
}
