package conf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// decoder makes a model of a tree of nodes and collects what is wrong with it.
type decoder struct {
	file   string
	now    time.Time
	ps     *problems
	cfg    *model.Config
	broken map[string]bool // sections that miss something for which a problem is reported already
	near   suggester

	unknown   []*unknown // in the order found
	unknowns  map[string]*unknown
	ports     map[string]*port
	endpoints map[string]*endpoint
	order     []string // names of endpoints, in file order
	names     []string // the same and the predeclared ones, made when first needed
	protocols map[string][]model.Service
	ownNames  []string // the file's own protocols, in file order
	// The same and the catalogue's, made when first needed.
	serviceNames []string
	words        map[string][]model.Service
	rules        map[string]diag.Pos
	zones        []*zone
	config       *node // system.config, read once the devices are known
	uplink       *uplink
	byAddress    map[addrKey]*model.Device
	resolved     int // endpoints that rules hold so far
}

func (d *decoder) at(n *node) diag.Pos { return diag.Pos{File: d.file, Line: n.line, Col: n.col} }

func (d *decoder) error(n *node, path, hint, format string, args ...any) {
	d.ps.add(d.at(n), path, fmt.Sprintf(format, args...), hint)
}

func (d *decoder) warn(n *node, path, hint, format string, args ...any) {
	d.ps.warn(d.at(n), path, fmt.Sprintf(format, args...), hint)
}

// unknown is a name without a meaning and every place where it stands. It is told
// once: misspelling a name where it is declared is one mistake.
type unknown struct {
	at        *node
	path      string
	msg, hint string
	lines     []int // of further places
}

// unknownName notes that a name of some kind is not declared.
func (d *decoder) unknownName(n *node, path, kind, name string, hint func() string) {
	if u := d.unknowns[kind+name]; u != nil {
		if n.line != u.at.line && (len(u.lines) == 0 || n.line != u.lines[len(u.lines)-1]) {
			u.lines = append(u.lines, n.line)
		}
		return
	}
	u := &unknown{at: n, path: path, msg: fmt.Sprintf("no %s is called %q", kind, cut(name)), hint: hint()}
	d.unknowns[kind+name] = u
	d.unknown = append(d.unknown, u)
}

func (d *decoder) tellUnknown() {
	for _, u := range d.unknown {
		if len(u.lines) > 0 {
			var lines []string
			for _, l := range u.lines {
				lines = append(lines, strconv.Itoa(l))
			}
			u.msg += "; neither in line " + enumerate(lines)
		}
		d.error(u.at, u.path, u.hint, "%s", u.msg)
	}
}

// join makes the path of a key.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fields is a mapping whose keys the language fixes.
type fields struct {
	path string
	at   *node // where to report what is missing
	vals []field
}

type field struct {
	name  string
	key   *node
	value *node // nil: present, but wrong in a way that is reported
}

// key returns where a key stands, or the mapping if it is absent.
func (f *fields) key(name string) *node {
	for _, v := range f.vals {
		if v.name == name {
			return v.key
		}
	}
	return f.at
}

// get returns the value of a key, or nil if it is absent or wrong.
func (f *fields) get(name string) *node {
	for _, v := range f.vals {
		if v.name == name {
			return v.value
		}
	}
	return nil
}

// has reports whether a key is present, be it right or wrong.
func (f *fields) has(name string) bool {
	return slices.ContainsFunc(f.vals, func(v field) bool { return v.name == name })
}

// fields reads a mapping with the keys of a table: unknown, repeated, empty and
// missing ones are reported. Under is where the mapping's problems are reported.
// It returns nil if n is no mapping.
func (d *decoder) fields(n, under *node, path, table string) *fields {
	known := tables[table]
	if n.shape == empty {
		d.error(under, path, "write "+example(known), "has no value")
		return nil
	}
	if n.shape != mapping {
		d.mismatch(n, path, "a mapping", "write "+example(known))
		return nil
	}
	f := &fields{path: path, at: under, vals: make([]field, 0, len(n.keys))}
	var repeated []*node
	for _, e := range n.keys {
		name := e.key.text
		if !slices.ContainsFunc(known, func(k key) bool { return k.name == name }) {
			if name = d.unknownKey(f, n, e, known); name == "" {
				continue
			}
		} else if f.has(name) {
			repeated = append(repeated, e.key)
			continue
		}
		v := e.value
		if v.shape == empty && path != "" {
			hint := "give it a value, or remove the key"
			if v.noted {
				hint += `; a "#" after a space begins a comment: put quotes around text that begins with it`
			}
			d.error(e.key, join(path, name), hint, "has no value")
			v = nil
		}
		f.vals = append(f.vals, field{name, e.key, v})
	}
	d.repeated(repeated, f, strings.HasSuffix(table, "[]"))
	for _, k := range known {
		if k.required && !f.has(k.name) && !(path == "" && len(d.broken) > 0) {
			d.error(under, path, missing[table+"."+k.name], "key %q is missing", k.name)
		}
	}
	return f
}

// repeated reports keys that a mapping has already. Several of them are one mistake:
// something that starts a new mapping is missing before the first.
func (d *decoder) repeated(keys []*node, f *fields, listed bool) {
	if len(keys) == 0 {
		return
	}
	first, more := keys[0], ""
	var names []string
	for _, k := range keys[1:] {
		if k.text != first.text && !slices.Contains(names, k.text) {
			names = append(names, k.text)
		}
	}
	if len(names) > 0 {
		more = ", and so are " + enumerate(names)
	}
	hint := "keep one of the two"
	if listed {
		hint = "begin a new entry with a dash, or keep one of the two"
	}
	d.error(first, join(f.path, first.text), hint, "key is already given in line %d%s", f.key(first.text).line, more)
}

// unknownKey reports a key that the table lacks. If it can only be a misspelling of
// one that is absent, it returns that one, so that its value is checked all the same.
func (d *decoder) unknownKey(f *fields, n *node, e entry, known []key) string {
	var names []string
	for _, k := range known {
		names = append(names, k.name)
	}
	path := join(f.path, cut(e.key.text))
	guess := d.near.nearest("key "+f.path, e.key.text, names)
	taken := guess != "" && slices.ContainsFunc(n.keys, func(e entry) bool { return e.key.text == guess })
	switch {
	case guess == "" || taken:
		d.error(e.key, path, "the keys here are "+enumerate(names), "unknown key")
		return ""
	case f.has(guess):
		d.error(e.key, path, fmt.Sprintf("did you mean %q?", guess), "unknown key")
		return ""
	}
	d.error(e.key, path, fmt.Sprintf("did you mean %q?", guess), "unknown key")
	return guess
}

// missing holds what to do about a missing key, by table and key.
var missing = map[string]string{
	".ports":                   `name the box's sockets: ports: {lan: {mac: "52:54:00:12:34:56"}}`,
	".zones":                   "add at least one zone, with a port, a subnet and admin: true",
	"ports.*.mac":              `pin the port by the MAC address of its network card, such as mac: "52:54:00:12:34:56"`,
	"internet.port":            "say which port leads to the internet",
	"zones.*.port":             "say which port the zone is on",
	"zones.*.subnet":           "give the zone a range of addresses, such as subnet: 192.168.10.0/24",
	"devices.*.zone":           "say which zone the device is in",
	"devices.*.mac":            `give the MAC address of its network card, such as mac: "52:54:00:12:34:56"`,
	"allow[].name":             "give the rule a name; logs and the UI show it",
	"allow[].from":             "say who may open the connections",
	"allow[].to":               "say where the connections may go",
	"allow[].protocols":        "name what is allowed, such as protocols: [https], or write protocols: any",
	"allow[].why":              "say in a few words why the rule exists",
	"block[].name":             "give the rule a name; logs and the UI show it",
	"block[].from":             "say whose connections are refused",
	"block[].to":               "say connections to where are refused",
	"block[].why":              "say in a few words why the rule exists",
	"internet.ipv4.address":    "give the box's address as the provider told it, such as 203.0.113.2/24",
	"internet.ipv4.gateway":    "give the provider's router, such as 203.0.113.1",
	"internet.ipv6.address":    `give the box's address as the provider told it, such as "2001:db8::2/64"`,
	"internet.ipv6.gateway":    `give the provider's router, such as "2001:db8::1"`,
	"system.config.push":       pushForm,
	"system.config.key":        "name the secret that holds the private key that the remote lets in: key: {secret: history-key}",
	"system.config.known-host": knownForm,
	"system.config.key.secret": secretForm,
	"export.*.format":          formatForm,
	"export.*.to":              "say where it is sent, such as to: udp://192.168.10.20:4739",
	"export.*.token.secret":    secretForm,
	"alerts.*.by":              wayForm,
	"alerts.*.to":              "say where it is sent, such as to: https://192.168.10.20/alerts",
	"alerts.*.token.secret":    secretForm,
	"alerts.*.path.secret":     secretForm,
	"alerts.*.password.secret": secretForm,
	"resolvers[].secret":       secretForm,
	"forwards[].name":          "give the forward a name; logs and the UI show it",
	"forwards[].protocols":     "name the ports to open, such as protocols: [tcp/443]",
	"forwards[].to":            "name the device that the connections go to",
	"forwards[].owner":         "say who answers for the open port",
	"forwards[].why":           "say in a few words why the port is open",
	"forwards[].expires":       "give the last day of the forward, such as expires: 2027-01-31",
	"tests[].from":             "say who tries to open the connection",
	"tests[].to":               "say where the connection goes",
	"tests[].protocols":        "name what is tried, such as protocols: [https]",
	"tests[].expect":           "write expect: allow or expect: deny",
}

// example shows a mapping of a table.
func example(known []key) string {
	s := ""
	for _, k := range known {
		if k.required || s == "" {
			if s != "" {
				s += ", "
			}
			s += k.name + ": ..."
		}
	}
	return "{" + s + "}"
}

// mismatch reports a value of the wrong shape.
func (d *decoder) mismatch(n *node, path, want, hint string) {
	switch {
	case n.shape == mapping && len(n.keys) == 1 && n.keys[0].key.text == "secret":
		d.error(n, path, "write the value itself: only keys, passwords and tokens are secrets", "a secret cannot stand here")
	case n.shape <= empty, n.shape >= list:
		d.error(n, path, hint, "expected %s, found %s", want, shapeNames[n.shape])
	default:
		d.error(n, path, hint, "expected %s, found %q", want, cut(n.text))
	}
}

// word returns a scalar as it is written, whatever YAML takes it for: names and
// addresses have a grammar of their own.
func (d *decoder) word(n *node, path, want, hint string) (string, bool) {
	if n == nil {
		return "", false
	}
	if n.shape == empty || n.shape >= list {
		d.mismatch(n, path, want, hint)
		return "", false
	}
	return n.text, true
}

// maxText is what a comment of nft(8) has room for, beside what compile adds.
const maxText = 80

// text returns a sentence that ends up in logs, the UI and comments of the ruleset,
// which know no escapes.
func (d *decoder) text(n *node, path string) string {
	plain := func(r rune) bool { return r >= ' ' && r <= '~' && r != '"' }
	return d.prose(n, path, maxText, plain, "use ASCII letters, digits and punctuation without double quotes")
}

// maxNote is the longest note, in characters.
const maxNote = 500

// note returns what only people read, in the file and in the UI.
func (d *decoder) note(n *node, path string) string {
	return d.prose(n, path, maxNote, unicode.IsPrint, "use letters, digits and punctuation, on one line")
}

// prose returns text of at most limit characters that may stand in it.
func (d *decoder) prose(n *node, path string, limit int, may func(rune) bool, hint string) string {
	if n == nil {
		return ""
	}
	switch {
	case n.shape == empty || n.shape >= list:
		d.mismatch(n, path, "text", "write a few words")
	case n.shape != str:
		d.mismatch(n, path, "text", fmt.Sprintf("put quotes around it: '%s'", cut(n.text)))
	case n.text == "":
		d.error(n, path, "write a few words, or remove the key", "is empty")
	case utf8.RuneCountInString(n.text) > limit:
		d.error(n, path, "make it shorter", "is %d characters long; the limit is %d", utf8.RuneCountInString(n.text), limit)
	default:
		pos := 0
		for _, r := range n.text {
			if pos++; !may(r) {
				d.error(n, path, hint, "character %d is %q, which cannot stand here", pos, r)
				return ""
			}
		}
		if random(n.text) {
			d.ps.leak(d.at(n), path, "a key or a token, mixed as by dice")
		}
		return n.text
	}
	return ""
}

func (d *decoder) bool(n *node, path string, otherwise bool) bool {
	switch {
	case n == nil:
	case n.shape == boolean && (n.text == "true" || n.text == "false"):
		return n.text == "true"
	case n.quoted && (n.text == "true" || n.text == "false"):
		d.error(n, path, "remove the quotes", "expected true or false, found text")
	case slices.Contains([]string{"yes", "on", "True", "TRUE"}, n.text):
		d.mismatch(n, path, "true or false", "write true")
	case slices.Contains([]string{"no", "off", "False", "FALSE"}, n.text):
		d.mismatch(n, path, "true or false", "write false")
	default:
		d.mismatch(n, path, "true or false", "write true or false")
	}
	return otherwise
}

// number returns a decimal number within bounds.
func (d *decoder) number(n *node, path string, lo, hi int, hint string) (int, bool) {
	if n == nil {
		return 0, false
	}
	v, err := strconv.Atoi(n.text)
	huge := errors.Is(err, strconv.ErrRange)
	switch {
	case n.quoted && err == nil:
		d.error(n, path, "remove the quotes", "expected a number, found text")
	case !huge && (n.shape != integer || err != nil || strconv.Itoa(v) != n.text):
		d.mismatch(n, path, "a number", fmt.Sprintf("write a decimal number from %d to %d", lo, hi))
	case huge, v < lo, v > hi:
		d.error(n, path, hint, "%s is out of range: %d to %d", cut(n.text), lo, hi)
	default:
		return v, true
	}
	return 0, false
}

// maxItems bounds the list that one key takes.
const maxItems = 1024

// some returns the values of a key that takes one value or a list of them.
func (d *decoder) some(n *node, path string) []*node {
	switch {
	case n == nil:
		return nil
	case n.shape != list:
		return []*node{n}
	case len(n.items) == 0:
		d.error(n, path, "name at least one, or remove the key", "the list is empty")
	case len(n.items) > maxItems:
		d.error(n, path, "use groups, prefixes and ranges of ports", "the list has %d entries; the limit is %d", len(n.items), maxItems)
		return nil
	}
	return n.items
}

// each calls f for the entries of a section whose keys are names that the author
// chooses; names that are none, or that come twice, are reported and left out.
func (d *decoder) each(n *node, section string, f func(e entry, path string)) {
	if n == nil || n.shape == empty {
		return
	}
	if n.shape != mapping {
		d.mismatch(n, section, "a mapping of names", fmt.Sprintf("write %s: {name: ...}", section))
		d.broken[section] = true
		return
	}
	seen := make(map[string]*node, len(n.keys))
	for _, e := range n.keys {
		path := join(section, cut(e.key.text))
		if first := seen[e.key.text]; first != nil {
			d.error(e.key, path, "give one of the two another name, or remove it", "is already declared in line %d", first.line)
			continue
		}
		seen[e.key.text] = e.key
		if !d.name(e.key, path) {
			d.broken[section] = true // what it was meant to be is unknown now
		}
		f(e, path)
	}
}

// entries calls f for the entries of a section that is a list.
func (d *decoder) entries(n *node, section string, f func(n *node, index string)) {
	if n == nil || n.shape == empty {
		return
	}
	if n.shape != list {
		d.mismatch(n, section, "a list", fmt.Sprintf("begin each entry of %s with a dash", section))
		return
	}
	for i, item := range n.items {
		f(item, section+"["+strconv.Itoa(i)+"]")
	}
}

// maxName is the longest name, in bytes.
const maxName = 32

// validName reports whether s is a name: lower-case letters, digits and inner
// hyphens, a letter first, at most 32 bytes.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'a' || s[0] > 'z' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// name checks a name that the file declares.
func (d *decoder) name(n *node, path string) bool {
	const form = "names are lower-case letters, digits and inner hyphens, and begin with a letter"
	switch {
	case validName(n.text):
		return true
	case len(n.text) > maxName:
		d.error(n, path, "shorten it", "name has %d characters; the limit is %d", len(n.text), maxName)
	case n.text == "":
		d.error(n, path, form, "name is empty")
	default:
		hint := form
		if s := tidy(n.text); s != n.text && validName(s) {
			hint += fmt.Sprintf(": %q would do", s)
		}
		d.error(n, path, hint, "%q is not a name", cut(n.text))
	}
	return false
}

// tidy makes a name of what somebody took for one.
func tidy(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case c == ' ', c == '_', c == '.':
			b[i] = '-'
		}
	}
	return string(b)
}
