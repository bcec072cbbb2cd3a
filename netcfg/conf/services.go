package conf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bulkhead/netcfg/model"
)

// maxServices bounds one protocol of the file, and one rule.
const maxServices = 256

func (d *decoder) readProtocols(n *node) {
	d.each(n, "protocols", func(e entry, path string) {
		name := e.key.text
		ok := validName(name)
		if _, known := model.Catalogued(name); ok && known {
			d.error(e.key, path, "choose another name, or use the built-in one", "%q is a built-in protocol", name)
			ok = false
		} else if _, known := model.ProtoByName(name); ok && (known || name == "any" || name == "proto") {
			d.error(e.key, path, "choose another name", "%q is a word of the language", name)
			ok = false
		}
		var services []model.Service
		sound := true
		for _, item := range d.some(e.value, path) {
			s, good := d.ownService(item, path)
			if sound = sound && good; good {
				services = appendServices(services, s)
			}
		}
		if e.value.shape == list && len(e.value.items) == 0 {
			sound = false
		}
		if len(services) > maxServices {
			d.error(e.key, path, "use ranges of ports", "has %d services; the limit is %d", len(services), maxServices)
			sound = false
		}
		if !ok {
			return
		}
		d.ownNames = append(d.ownNames, name)
		if !sound {
			services = nil
		}
		d.protocols[name] = services
		d.cfg.Protocols = append(d.cfg.Protocols, &model.Protocol{Name: name, Services: services, Pos: d.at(e.key)})
	})
}

// ownService reads an entry of one of the file's own protocols.
func (d *decoder) ownService(n *node, path string) ([]model.Service, bool) {
	v, ok := d.word(n, path, "a protocol", portHint(n, "write ports such as tcp/443 or udp/5000-5010"))
	switch {
	case !ok:
		return nil, false
	case v == "any":
		d.error(n, path, "write protocols: any in the rule itself", "\"any\" cannot be part of a protocol")
		return nil, false
	}
	if _, own := d.protocols[v]; own {
		d.error(n, path, "list its ports here, too", "%q is a protocol of this file; protocols do not contain each other", v)
		return nil, false
	}
	return d.service(n, path, v)
}

// appendServices adds the services that are not in the list yet.
func appendServices(list, more []model.Service) []model.Service {
	if len(list) == 0 {
		return more[:len(more):len(more)] // shared until something is added
	}
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// service finds what a word in protocols stands for. Not ok: it reported a problem,
// or one is reported already.
func (d *decoder) service(n *node, path, word string) ([]model.Service, bool) {
	if s, ok := d.words[word]; ok {
		return s, true
	}
	if s, own := d.protocols[word]; own {
		return s, len(s) > 0
	}
	s, msg, hint := parseService(word)
	if msg == "" {
		d.words[word] = s
		return s, true
	}
	if isName := hint == ""; isName {
		if d.broken["protocols"] {
			return nil, false
		}
		d.unknownName(n, path, "protocol", word, func() string { return d.serviceHint(word) })
		return nil, false
	}
	d.error(n, path, hint, "%s", msg)
	return nil, false
}

func (d *decoder) serviceHint(word string) string {
	if e := d.endpoints[word]; e != nil {
		return fmt.Sprintf("%q is a %s; name a protocol such as https, or ports such as tcp/443", word, e.kind)
	}
	if d.serviceNames == nil {
		d.serviceNames = append(slices.Clone(d.ownNames), model.CatalogueNames()...)
	}
	if guess := d.near.nearest("protocol", word, d.serviceNames); guess != "" {
		return fmt.Sprintf("did you mean %q?", guess)
	}
	return "write ports such as tcp/443, or declare it under protocols"
}

// parseService reads a word of protocols that is not the file's own: a name of the
// catalogue, an IP protocol, or ports of one. A message without a hint says that the
// word is the name of nothing.
func parseService(word string) (s []model.Service, msg, hint string) {
	if word == "any" {
		return []model.Service{model.AnyService}, "", ""
	}
	if s, ok := model.Catalogued(word); ok {
		return s, "", ""
	}
	name, rest, slash := strings.Cut(word, "/")
	if !slash {
		if proto, ok := model.ProtoByName(word); ok {
			return []model.Service{{Proto: proto}}, "", ""
		}
		if _, err := strconv.ParseUint(word, 10, 16); err == nil {
			return nil, fmt.Sprintf("%q lacks the protocol", word), fmt.Sprintf("write tcp/%s or udp/%s", word, word)
		}
		if name, port, ok := strings.Cut(word, ":"); ok {
			if _, msg, _ := parsePorts(word, name, port); msg == "" {
				return nil, fmt.Sprintf("%q is no protocol", cut(word)), fmt.Sprintf("write %s/%s", name, port)
			}
		}
		if lower := strings.ToLower(word); lower != word {
			if _, msg, _ := parseService(lower); msg == "" {
				return nil, fmt.Sprintf("no protocol is called %q", cut(word)), fmt.Sprintf("write %s", lower)
			}
		}
		return nil, fmt.Sprintf("no protocol is called %q", cut(word)), ""
	}
	return parsePorts(word, name, rest)
}

func parsePorts(word, name, rest string) (s []model.Service, msg, hint string) {
	const form = "write ports such as tcp/443 or udp/5000-5010, icmp/8, or proto/47"
	proto, known := model.ProtoByName(name)
	switch {
	case name == "proto":
		v, ok := decimal(rest, 255)
		if !ok || v == 0 {
			return nil, fmt.Sprintf("%q is no IP protocol", cut(word)), "write a number from 1 to 255, such as proto/47"
		}
		return []model.Service{{Proto: uint8(v)}}, "", ""
	case !known:
		if _, swapped := model.ProtoByName(rest); swapped {
			return nil, fmt.Sprintf("%q is the wrong way round", cut(word)), fmt.Sprintf("write %s/%s", rest, cut(name))
		}
		if _, lower := model.ProtoByName(strings.ToLower(name)); lower {
			return nil, fmt.Sprintf("%q is no protocol", cut(word)), fmt.Sprintf("write %s/%s", strings.ToLower(name), cut(rest))
		}
		return nil, fmt.Sprintf("%q is no protocol", cut(word)), form
	case proto == model.ProtoICMP:
		v, ok := decimal(rest, 255)
		if !ok {
			return nil, fmt.Sprintf("%q is no ICMP type", cut(word)), "write a number from 0 to 255, such as icmp/8 for ping"
		}
		return []model.Service{model.ICMP(uint8(v))}, "", ""
	case !model.HasPorts(proto):
		return nil, fmt.Sprintf("%s has no ports", name), fmt.Sprintf("write %s alone", name)
	}
	lo, hi, isRange := strings.Cut(rest, "-")
	first, ok1 := decimal(lo, 65535)
	end, ok2 := first, ok1
	if isRange {
		end, ok2 = decimal(hi, 65535)
	}
	switch {
	case !ok1 || !ok2 || first == 0:
		if _, ok := model.Catalogued(rest); ok {
			return nil, fmt.Sprintf("%q is not a port", cut(rest)), fmt.Sprintf("write %s alone", rest)
		}
		return nil, fmt.Sprintf("%q is not a port", cut(rest)), "write a number from 1 to 65535, or a range such as " + name + "/5000-5010"
	case end < first:
		return nil, fmt.Sprintf("the range %s ends before it begins", rest), fmt.Sprintf("write %s/%d-%d", name, end, first)
	}
	return []model.Service{model.PortRange(proto, uint16(first), uint16(end))}, "", ""
}

// portHint is what to do about a list or mapping where a protocol belongs: [tcp: 443]
// is a mapping to YAML, and ports to who wrote it.
func portHint(n *node, otherwise string) string {
	if n.shape != mapping || len(n.keys) != 1 {
		return otherwise
	}
	k, v := n.keys[0].key.text, n.keys[0].value
	if _, msg, _ := parsePorts(k, k, v.text); v.shape == empty || v.shape >= list || msg != "" {
		return otherwise
	}
	return fmt.Sprintf("write %s/%s", k, v.text)
}

// decimal reads a decimal number without sign or leading zeros.
func decimal(s string, most int) (int, bool) {
	v, err := strconv.Atoi(s)
	return v, err == nil && strconv.Itoa(v) == s && 0 <= v && v <= most
}

// services reads the protocols of a rule. Ok says that they are all good.
func (d *decoder) services(n *node, path string) (list []model.Service, words []string, ok bool) {
	ok = true
	items := d.some(n, path)
	for _, item := range items {
		v, good := d.word(item, path, "a protocol", portHint(item, "name a protocol such as https, or ports such as tcp/443"))
		if !good {
			ok = false
			continue
		}
		s, good := d.service(item, path, v)
		if good && v == "any" && len(items) > 1 {
			d.error(item, path, "write protocols: any, or remove it", "\"any\" stands alone")
			good = false
		}
		if !good {
			ok = false
			continue
		}
		words = append(words, v)
		list = appendServices(list, s)
	}
	if len(list) > maxServices {
		d.error(n, path, "use ranges of ports", "has %d services; the limit is %d", len(list), maxServices)
		ok = false
	}
	return list, words, ok && len(list) > 0
}
