package record

import (
	"net/netip"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// Filter picks records. Each field that is not zero must hold; the zero value picks all.
type Filter struct {
	Since  time.Time `json:"since,omitzero"`  // records that end then or later
	Until  time.Time `json:"until,omitzero"`  // records that start before
	Device Who       `json:"device,omitzero"` // on either side
	From   Who       `json:"from,omitzero"`
	To     Who       `json:"to,omitzero"`
	Zone   string    `json:"zone,omitempty"` // on either side

	Rule    string  `json:"rule,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	Verdict Verdict `json:"verdict,omitempty"`
	Proto   uint8   `json:"proto,omitempty"`
	Port    uint16  `json:"port,omitempty"` // of the destination
	Name    string  `json:"name,omitempty"` // the DNS name, or a domain that it lies in
}

// Match reports whether the filter picks r.
func (f *Filter) Match(r *Record) bool {
	return (f.Since.IsZero() || !r.End.Before(f.Since)) &&
		(f.Until.IsZero() || r.Start.Before(f.Until)) &&
		(f.Verdict == 0 || f.Verdict == r.Verdict) &&
		(f.Proto == 0 || f.Proto == r.Proto) &&
		(f.Port == 0 || f.Port == r.Dst.Port) &&
		(f.Rule == "" || f.Rule == r.Rule) &&
		(f.Reason == "" || f.Reason == r.Reason) &&
		(f.Zone == "" || f.Zone == r.Src.Zone || f.Zone == r.Dst.Zone) &&
		f.From.Is(r.Src) && f.To.Is(r.Dst) &&
		(f.Device.Is(r.Src) || f.Device.Is(r.Dst)) &&
		(f.Name == "" || within(r.Name, f.Name))
}

// within reports whether a name is the domain or lies in it.
func within(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// Who picks sides by whatever is known of them: one of its fields is set, or none to pick
// all.
type Who struct {
	Party  string       // a zone, model.Internet or model.Box
	Device string       // name in the configuration
	MAC    model.MAC    // of a device that has no name, too
	Prefix netip.Prefix // an address has all bits
}

// ParseWho reads a MAC, an address, a prefix or a name. Names are those of devices unless
// zone says that one is a zone's.
func ParseWho(s string, zone func(string) bool) Who {
	if mac, err := model.ParseMAC(s); err == nil {
		return Who{MAC: mac}
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Who{Prefix: netip.PrefixFrom(a, a.BitLen())}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return Who{Prefix: p.Masked()}
	}
	if s == model.Internet || s == model.Box || zone(s) {
		return Who{Party: s}
	}
	return Who{Device: s}
}

// Is reports whether w picks the side.
func (w Who) Is(s Side) bool {
	switch {
	case w.Party != "":
		return w.Party == s.Zone
	case w.Device != "":
		return w.Device == s.Device
	case !w.MAC.IsZero():
		return w.MAC == s.MAC
	case w.Prefix.IsValid():
		return w.Prefix.Contains(s.Addr)
	}
	return true
}

func (w Who) String() string {
	switch {
	case w.Party != "":
		return w.Party
	case w.Device != "":
		return w.Device
	case !w.MAC.IsZero():
		return w.MAC.String()
	case w.Prefix.IsSingleIP():
		return w.Prefix.Addr().String()
	case w.Prefix.IsValid():
		return w.Prefix.String()
	}
	return ""
}
