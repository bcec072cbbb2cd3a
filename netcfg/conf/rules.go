package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
)

// side says what may stand in a list of endpoints.
type side uint8

const (
	source      side = iota // of a rule
	destination             // of a rule
	either                  // of a test, which may ask anything
)

// side resolves a list of endpoints. Ok says that they are all good.
func (d *decoder) side(n *node, path string, what side) (list []model.Endpoint, words []string, ok bool) {
	ok = true
	var set endpointSet
	for _, item := range d.some(n, path) {
		v, good := d.word(item, path, "the name of an endpoint", "name a zone, a device, a group or an address")
		if good && slices.Contains(words, v) {
			d.warn(item, path, "remove it", "%q is named twice", cut(v))
			continue
		}
		var members []model.Endpoint
		if good {
			members, good = d.resolve(item, path, v)
		}
		if !good || !d.allowed(item, path, v, members, what) {
			ok = false
			continue
		}
		words = append(words, v)
		set.add(members)
	}
	if len(set.list) > maxMembers {
		d.error(n, path, "name zones or prefixes instead of their members", "holds %d endpoints; the limit is %d", len(set.list), maxMembers)
		return nil, words, false
	}
	if set.seen != nil { // otherwise the slice is shared
		d.resolved += len(set.list)
	}
	return set.list, words, ok && len(set.list) > 0
}

// allowed checks what a word resolved to against where it stands.
func (d *decoder) allowed(n *node, path, word string, members []model.Endpoint, what side) bool {
	if word == model.Internet && what != either && d.uplink == nil && !d.broken["internet"] {
		d.error(n, path, "add a section internet: {port: ...}", "there is no uplink")
		return false
	}
	if what != source {
		return true
	}
	for _, e := range members {
		switch {
		case e.Kind == model.KindInternet:
			d.error(n, path, "what the internet may open is declared under forwards", "internet cannot be the source of a rule")
			return false
		case e.Kind == model.KindPrefix && e.Zone == nil:
			d.error(n, path, "choose an address in a zone; what the internet may open is declared under forwards", "%s lies in no zone, so it cannot be the source of a rule", e.Name())
			return false
		}
	}
	return true
}

func (d *decoder) allow(n *node) {
	d.entries(n, "allow", func(n *node, index string) {
		if r := d.rule(n, "allow", index, "any never includes the box: name the protocols, such as [dns, ping]"); r != nil {
			d.cfg.Allow = append(d.cfg.Allow, r)
		}
	})
}

func (d *decoder) block(n *node) {
	d.entries(n, "block", func(n *node, index string) {
		if r := d.rule(n, "block", index, ""); r != nil {
			d.cfg.Block = append(d.cfg.Block, r)
		}
	})
}

// rule reads an entry of allow or block. AnyToBox is the hint against "any" towards
// the box; "" where it is in order. Nil: the entry is no mapping.
func (d *decoder) rule(n *node, section, index, anyToBox string) *model.Rule {
	path := rulePath(n, section, index)
	f := d.fields(n, n, path, section+"[]")
	if f == nil {
		return nil
	}
	r := &model.Rule{Name: d.ruleName(f, path), Pos: d.at(n)}
	var fromOK, toOK, servicesOK bool
	r.From, r.FromNames, fromOK = d.side(f.get("from"), path+".from", source)
	r.To, r.ToNames, toOK = d.side(f.get("to"), path+".to", destination)
	if section == "block" && !f.has("protocols") {
		r.Services, r.Protocols, servicesOK = []model.Service{model.AnyService}, []string{"any"}, true
	} else {
		r.Services, r.Protocols, servicesOK = d.services(f.get("protocols"), path+".protocols")
	}
	if fromOK && toOK && oneParty(r.From, r.To) {
		party := r.From[0].Party()
		msg, hint := fmt.Sprintf("covers nothing: from and to are both in zone %q, and such packets do not pass the box", party), "name different zones, or remove the rule"
		if party == model.Box {
			msg = "covers nothing: from and to are both the box"
		}
		d.error(f.key("to"), path+".to", hint, "%s", msg)
	}
	if i := slices.Index(r.ToNames, model.Box); anyToBox != "" && toOK && servicesOK && r.Services[0].Any && i >= 0 {
		d.error(f.get("protocols"), path+".protocols", anyToBox, "nothing is allowed to the box by \"any\"")
	}
	if d.resolved > maxResolved {
		d.error(f.key("to"), path, "name zones or prefixes instead of their members", "the rules hold more than %d endpoints", maxResolved)
		d.resolved = 0
	}
	r.Why = d.text(f.get("why"), path+".why")
	r.Owner = d.text(f.get("owner"), path+".owner")
	r.Until = d.expires(f.get("expires"), path+".expires")
	return r
}

// oneParty reports whether all endpoints are in one compartment.
func oneParty(from, to []model.Endpoint) bool {
	party := from[0].Party()
	other := func(e model.Endpoint) bool { return e.Party() != party }
	return !slices.ContainsFunc(from, other) && !slices.ContainsFunc(to, other)
}

// rulePath names an entry of a list of rules by its name, or, if it has none, by its
// place in the list.
func rulePath(n *node, section, index string) string {
	for _, e := range n.keys {
		if e.key.text == "name" && validName(e.value.text) {
			return section + "." + e.value.text
		}
	}
	return index
}

// ruleName reads the name of a rule or forward; "" if there is none.
func (d *decoder) ruleName(f *fields, path string) string {
	n := f.get("name")
	name, ok := d.word(n, path+".name", "a name", "write a name such as nas-backup")
	if !ok || !d.name(n, path+".name") {
		return ""
	}
	if other, taken := d.rules[name]; taken {
		d.error(n, path+".name", "choose another name: allow, block and forwards share one set of names", "name %q is already taken (%s)", name, other)
		return ""
	}
	d.rules[name] = d.at(n)
	return name
}

// expires returns the first instant after the given day, in the box's time zone.
func (d *decoder) expires(n *node, path string) time.Time {
	const form = "write the last day as YYYY-MM-DD, such as 2027-01-31"
	v, ok := d.word(n, path, "a date", form)
	if !ok {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, v)
	if err != nil || day.Year() < 1970 {
		hint := form
		if len(v) == len(time.DateOnly) && err == nil {
			hint = "write a day after 1970-01-01"
		} else if t, err := time.Parse("2006-1-2", v); err == nil {
			hint = "write " + t.Format(time.DateOnly)
		} else if t, err := time.Parse("2.1.2006", v); err == nil {
			hint = "write " + t.Format(time.DateOnly)
		}
		d.error(n, path, hint, "%q is not a date", cut(v))
		return time.Time{}
	}
	next := day.AddDate(0, 0, 1)
	until := startOfDay(next.Year(), next.Month(), next.Day(), d.cfg.System.Location)
	if !d.now.Before(until) && !d.broken["system"] {
		d.warn(n, path, "remove it, or give it a later date", "expired on %s: it has no effect", v)
	}
	return until
}

// startOfDay returns the first instant of a day. Where clocks are put forward at
// midnight, that is not 00:00.
func startOfDay(year int, month time.Month, day int, loc *time.Location) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, loc)
	from, to := t.ZoneBounds()
	y, m, d := t.Date()
	switch asked, got := time.Date(year, month, day, 0, 0, 0, 0, time.UTC), time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, time.UTC); {
	case got.Before(asked):
		return to // midnight is skipped, and t says 23:00
	case got.After(asked):
		return from // the same, and t says 01:00
	case from.IsZero():
		return t
	default:
		// Where clocks are put back to midnight there are two; take the first.
		_, offset := t.Zone()
		_, before := from.Add(-time.Second).Zone()
		if early := t.Add(time.Duration(offset-before) * time.Second); early.Before(from) {
			return early
		}
		return t
	}
}

func (d *decoder) forwards(n *node) {
	var open []opening
	d.entries(n, "forwards", func(n *node, index string) {
		path := rulePath(n, "forwards", index)
		f := d.fields(n, n, path, "forwards[]")
		if f == nil {
			return
		}
		w := &model.Forward{Name: d.ruleName(f, path), Pos: d.at(n)}
		w.To = d.target(f.get("to"), path+".to")
		for _, item := range d.some(f.get("protocols"), path+".protocols") {
			if s, word, ok := d.portsOnly(item, path+".protocols"); ok {
				w.Services, w.Protocols = appendServices(w.Services, s), append(w.Protocols, word)
				for _, s := range s {
					open = append(open, opening{s, item, path + ".protocols", w, len(open)})
				}
			}
		}
		w.Owner = d.text(f.get("owner"), path+".owner")
		w.Why = d.text(f.get("why"), path+".why")
		w.Until = d.expires(f.get("expires"), path+".expires")
		d.cfg.Forwards = append(d.cfg.Forwards, w)
	})
	if len(d.cfg.Forwards) > 0 && d.uplink == nil && !d.broken["internet"] {
		d.error(n, "forwards", "add a section internet: {port: ...}", "there is no uplink that anything could come from")
	}
	d.checkOpenings(open)
}

// target reads the device that a forward leads to.
func (d *decoder) target(n *node, path string) *model.Device {
	v, ok := d.word(n, path, "the name of one device", "name a device declared under devices")
	if !ok {
		return nil
	}
	if e := d.endpoints[v]; e != nil && e.kind == "device" {
		return e.device.model
	} else if e != nil {
		d.error(n, path, "name a device declared under devices", "%q is a %s; a forward leads to one device", v, e.kind)
		return nil
	}
	if d.broken["devices"] {
		return nil
	}
	hint := "declare it under devices, with MAC and address"
	if looksLikeAddress(v) {
		if e, p := (locator{zones: d.cfg.Zones, device: func(netip.Addr) *model.Device { return nil }}).locate(v); p == nil && e.Prefix.IsSingleIP() {
			if dev := d.byAddress[e.Prefix.Addr().As4()]; dev != nil {
				hint = fmt.Sprintf("say %s", dev.Name)
			}
		}
		d.error(n, path, hint, "a forward leads to a device, not to an address")
		return nil
	}
	d.unknownName(n, path, "device", v, func() string {
		var names []string
		for _, dev := range d.cfg.Devices {
			names = append(names, dev.Name)
		}
		return d.didYouMean("device", v, names, "declare it under devices, or name one of ")
	})
	return nil
}

// portsOnly reads a protocol of a forward.
func (d *decoder) portsOnly(n *node, path string) (list []model.Service, word string, ok bool) {
	word, ok = d.word(n, path, "a protocol", "name ports such as tcp/443")
	if !ok {
		return nil, "", false
	}
	if list, ok = d.service(n, path, word); !ok {
		return nil, word, false
	}
	for _, s := range list {
		if !s.Ports || s.Proto != model.ProtoTCP && s.Proto != model.ProtoUDP {
			d.error(n, path, "name ports such as tcp/443 or udp/51820", "%q cannot be forwarded: only TCP and UDP ports can", cut(word))
			return nil, word, false
		}
	}
	return list, word, true
}

// opening is a range of ports that a forward opens.
type opening struct {
	service model.Service
	at      *node
	path    string
	forward *model.Forward
	order   int
}

// checkOpenings reports ports that two forwards open: at the later, naming the earlier.
func (d *decoder) checkOpenings(open []opening) {
	slices.SortFunc(open, func(a, b opening) int {
		return cmp.Or(cmp.Compare(a.service.Proto, b.service.Proto), cmp.Compare(a.service.Lo, b.service.Lo), cmp.Compare(a.order, b.order))
	})
	told := make(map[*node]bool)
	var widest opening // of those so far, the one that reaches furthest
	for i, o := range open {
		if i > 0 && widest.service.Proto == o.service.Proto && widest.service.Hi >= o.service.Lo && widest.forward != o.forward {
			early, late := widest, o
			if early.order > late.order {
				early, late = late, early
			}
			if !told[late.at] {
				told[late.at] = true
				d.error(late.at, late.path, "choose another port, or make one forward of the two",
					"%s is already forwarded by %s (%s)", o.service, name(early.forward), d.at(early.at))
			}
		}
		if i == 0 || widest.service.Proto != o.service.Proto || o.service.Hi > widest.service.Hi {
			widest = o
		}
	}
}

func name(f *model.Forward) string {
	if f.Name == "" {
		return "another forward"
	}
	return fmt.Sprintf("%q", f.Name)
}

func (d *decoder) tests(n *node) {
	d.entries(n, "tests", func(n *node, path string) {
		f := d.fields(n, n, path, "tests[]")
		if f == nil {
			return
		}
		t := &model.Test{Pos: d.at(n)}
		t.From, t.FromNames, _ = d.side(f.get("from"), path+".from", either)
		t.To, t.ToNames, _ = d.side(f.get("to"), path+".to", either)
		t.Services, t.Protocols, _ = d.services(f.get("protocols"), path+".protocols")
		if v, ok := d.word(f.get("expect"), path+".expect", "allow or deny", missing["tests[].expect"]); ok {
			if t.Allow = v == "allow"; !t.Allow && v != "deny" {
				d.error(f.get("expect"), path+".expect", missing["tests[].expect"], "expected allow or deny, found %q", cut(v))
			}
		}
		d.cfg.Tests = append(d.cfg.Tests, t)
	})
}
