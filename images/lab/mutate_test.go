//go:build linux

package lab

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// tree is a configuration file as YAML has it: what changes are made of. The order of
// its keys is lost, which means nothing.
type tree map[string]any

func parseTree(data []byte) (tree, error) {
	var t tree
	err := yaml.Unmarshal(data, &t)
	return t, err
}

func (t tree) bytes() []byte {
	b, err := yaml.Marshal(map[string]any(t))
	if err != nil {
		panic(err) // it came out of a file
	}
	return b
}

// section returns one of the maps of the file, which is made if there is none.
func (t tree) section(name string) map[string]any {
	m, ok := t[name].(map[string]any)
	if !ok {
		m = make(map[string]any)
		t[name] = m
	}
	return m
}

// list returns one of the lists of the file.
func (t tree) list(name string) []any {
	l, _ := t[name].([]any)
	return l
}

func (t tree) zone(name string) map[string]any   { return t.section("zones")[name].(map[string]any) }
func (t tree) device(name string) map[string]any { return t.section("devices")[name].(map[string]any) }

// mapNames gives every place that names an endpoint a chance to name another, or none.
// What names nobody any more goes, and what named only that.
func (t tree) mapNames(f func(string) (string, bool)) {
	some := func(v any) (any, bool) {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		var left []any
		for _, e := range list {
			if s, keep := f(fmt.Sprint(e)); keep {
				left = append(left, s)
			}
		}
		return left, len(left) > 0
	}
	for name, d := range t.section("devices") {
		z, keep := f(d.(map[string]any)["zone"].(string))
		if d.(map[string]any)["zone"] = z; !keep {
			t.drop(name)
		}
	}
	for name, members := range t.section("groups") {
		left, ok := some(members)
		if t.section("groups")[name] = left; !ok {
			t.drop(name)
		}
	}
	for _, kind := range []string{"allow", "block", "forwards", "tests"} {
		var kept []any
		for _, r := range t.list(kind) {
			rule, ok := r.(map[string]any), true
			for _, side := range []string{"from", "to"} {
				v, named := rule[side]
				if !named {
					continue // of a forward
				}
				left, some := some(v)
				if rule[side] = left; kind == "forwards" && some {
					rule[side] = left.([]any)[0]
				}
				ok = ok && some
			}
			if ok {
				kept = append(kept, rule)
			}
		}
		if t[kind] = kept; kept == nil {
			delete(t, kind)
		}
	}
	for _, empty := range []string{"devices", "groups"} {
		if len(t.section(empty)) == 0 {
			delete(t, empty)
		}
	}
}

// drop removes a device or a group, and every mention of it.
func (t tree) drop(name string) {
	delete(t.section("devices"), name)
	delete(t.section("groups"), name)
	t.mapNames(func(n string) (string, bool) { return n, n != name })
}

// replace replaces texts wherever they stand.
func (t tree) replace(r *strings.Replacer) {
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case string:
			return r.Replace(v)
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	walk(map[string]any(t))
}

// mutator makes random changes of a configuration.
type mutator struct {
	*rand.Rand
	spare []uint16 // VLANs that are wired
	port  string   // that they are on
	next  int      // number of the next new name
}

// mutations are the kinds of changes. Each reports whether it could be made: whether
// there was anything to make it on.
var mutations = []struct {
	name string
	make func(*mutator, tree) bool
}{
	{"add a zone", (*mutator).addZone},
	{"remove a zone", (*mutator).removeZone},
	{"renumber", (*mutator).renumber},
	{"swap subnets", (*mutator).swapSubnets},
	{"retag", (*mutator).retag},
	{"swap tags", (*mutator).swapTags},
	{"move the box within a zone", (*mutator).moveGateway},
	{"revoke", (*mutator).revoke},
	{"allow", (*mutator).allow},
	{"block", (*mutator).block},
	{"rename a zone", (*mutator).renameZone},
	{"rename a device", (*mutator).renameDevice},
	{"move a device", (*mutator).moveDevice},
	{"toggle", (*mutator).toggle},
}

// spoilers break a file, each in a way that is noticed before anything is done.
var spoilers = []struct {
	name  string
	spoil func(*mutator, tree) []byte
}{
	{"break its syntax", func(_ *mutator, t tree) []byte { return append(t.bytes(), "zones: [\n"...) }},
	{"name an unknown zone", func(m *mutator, t tree) []byte {
		t["allow"] = append(t.list("allow"), map[string]any{"name": "broken", "from": "nowhere", "to": "internet", "protocols": "any", "why": "x"})
		return t.bytes()
	}},
	{"use a tag twice", func(m *mutator, t tree) []byte {
		z := maps.Clone(t.zone(m.of(t.section("zones"))))
		z["subnet"] = "10.250.0.0/24"
		delete(z, "gateway")
		delete(z, "dhcp")
		t.section("zones")["twice"] = z
		return t.bytes()
	}},
	{"fail a test", func(m *mutator, t tree) []byte {
		t["tests"] = append(t.list("tests"), map[string]any{"from": m.of(t.section("zones")), "to": "box", "protocols": "ping", "expect": "allow"},
			map[string]any{"from": "internet", "to": m.of(t.section("zones")), "protocols": "any", "expect": "allow"})
		return t.bytes()
	}},
	{"leave no admin zone", func(_ *mutator, t tree) []byte {
		for _, z := range t.section("zones") {
			delete(z.(map[string]any), "admin")
		}
		return t.bytes()
	}},
}

// of picks one of the keys.
func (m *mutator) of(from map[string]any) string {
	if len(from) == 0 {
		return ""
	}
	keys := slices.Sorted(maps.Keys(from))
	return keys[m.IntN(len(keys))]
}

// unused returns a spare VLAN that no zone has, or 0.
func (m *mutator) unused(t tree) uint16 {
	free := slices.DeleteFunc(slices.Clone(m.spare), func(v uint16) bool {
		for _, z := range t.section("zones") {
			if z := z.(map[string]any); z["port"] == m.port && fmt.Sprint(z["vlan"]) == fmt.Sprint(v) {
				return true
			}
		}
		return false
	})
	if len(free) == 0 {
		return 0
	}
	return free[m.IntN(len(free))]
}

// freshNet returns the first bytes of a network that no zone has, of the few there are:
// addresses come back, in other places.
func (m *mutator) freshNet(t tree) string {
	for {
		n := fmt.Sprintf("10.60.%d.", 2*m.IntN(12))
		taken := false
		for _, z := range t.section("zones") {
			taken = taken || strings.HasPrefix(z.(map[string]any)["subnet"].(string), n)
		}
		if !taken {
			return n
		}
	}
}

// net returns the first bytes of a zone's network, and its length.
func (t tree) net(zone string) (first, bits string) {
	s := t.zone(zone)["subnet"].(string)
	addr, bits, _ := strings.Cut(s, "/")
	return addr[:strings.LastIndex(addr, ".")+1], bits
}

func (m *mutator) name(prefix string) string {
	m.next++
	return fmt.Sprintf("%s%d", prefix, m.next)
}

// services are what new rules allow. Some of them the examples name, too.
var services = []string{"ssh", "https", "ping", "nfs", "mqtt", "any", "tcp/6000", "udp/6000-6010"}

func (m *mutator) rule(t tree, from, to string) map[string]any {
	return map[string]any{"name": m.name("rule"), "from": from, "to": to, "protocols": services[m.IntN(len(services))], "why": "a test"}
}

func (m *mutator) addZone(t tree) bool {
	vlan := m.unused(t)
	if vlan == 0 {
		return false
	}
	other := m.of(t.section("zones"))
	name := m.name("zone")
	z := map[string]any{"port": m.port, "vlan": int(vlan), "subnet": m.freshNet(t) + "0/24"}
	if m.IntN(3) == 0 {
		z["admin"] = true
	}
	t.section("zones")[name] = z
	t["allow"] = append(t.list("allow"), m.rule(t, name, other), m.rule(t, other, name))
	return true
}

func (m *mutator) removeZone(t tree) bool {
	if len(t.section("zones")) < 2 {
		return false
	}
	name := m.of(t.section("zones"))
	delete(t.section("zones"), name)
	t.drop(name)
	return true
}

func (m *mutator) renumber(t tree) bool {
	old, _ := t.net(m.of(t.section("zones")))
	t.replace(strings.NewReplacer(old, m.freshNet(t)))
	return true
}

func (m *mutator) swapSubnets(t tree) bool {
	a, b := m.of(t.section("zones")), m.of(t.section("zones"))
	one, bits := t.net(a)
	two, same := t.net(b)
	if a == b || bits != same {
		return false
	}
	t.replace(strings.NewReplacer(one, two, two, one))
	return true
}

func (m *mutator) retag(t tree) bool {
	vlan := m.unused(t)
	z := t.zone(m.of(t.section("zones")))
	if vlan == 0 || z["port"] != m.port {
		return false
	}
	z["vlan"] = int(vlan)
	return true
}

func (m *mutator) swapTags(t tree) bool {
	a, b := t.zone(m.of(t.section("zones"))), t.zone(m.of(t.section("zones")))
	for _, key := range []string{"port", "vlan"} {
		a[key], b[key] = b[key], a[key]
		for _, z := range []map[string]any{a, b} {
			if z[key] == nil {
				delete(z, key)
			}
		}
	}
	return true
}

func (m *mutator) moveGateway(t tree) bool {
	name := m.of(t.section("zones"))
	first, bits := t.net(name)
	if bits != "24" {
		return false
	}
	t.zone(name)["gateway"] = fmt.Sprintf("%s%d", first, []int{1, 2, 254}[m.IntN(3)])
	return true
}

func (m *mutator) revoke(t tree) bool {
	kinds := []string{"allow", "allow", "allow", "block", "forwards"}
	kind := kinds[m.IntN(len(kinds))]
	list := t.list(kind)
	if len(list) == 0 {
		return false
	}
	i := m.IntN(len(list))
	if t[kind] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(t, kind)
	}
	return true
}

// endpoint picks a zone or a device.
func (m *mutator) endpoint(t tree) string {
	if d := m.of(t.section("devices")); d != "" && m.IntN(2) == 0 {
		return d
	}
	return m.of(t.section("zones"))
}

func (m *mutator) allow(t tree) bool {
	to := m.endpoint(t)
	if m.IntN(4) == 0 {
		to = "internet"
	}
	t["allow"] = append(t.list("allow"), m.rule(t, m.endpoint(t), to))
	return true
}

func (m *mutator) block(t tree) bool {
	t["block"] = append(t.list("block"), m.rule(t, m.endpoint(t), m.endpoint(t)))
	return true
}

func (m *mutator) renameZone(t tree) bool {
	old, name := m.of(t.section("zones")), m.name("zone")
	t.section("zones")[name] = t.zone(old)
	delete(t.section("zones"), old)
	t.mapNames(renaming(old, name))
	return true
}

func (m *mutator) renameDevice(t tree) bool {
	old, name := m.of(t.section("devices")), m.name("device")
	if old == "" {
		return false
	}
	t.section("devices")[name] = t.device(old)
	delete(t.section("devices"), old)
	t.mapNames(renaming(old, name))
	return true
}

func renaming(old, name string) func(string) (string, bool) {
	return func(n string) (string, bool) {
		if n == old {
			n = name
		}
		return n, true
	}
}

// moveDevice gives a device, which is made if there is none, another zone, or another
// address in its own.
func (m *mutator) moveDevice(t tree) bool {
	name := m.of(t.section("devices"))
	if name == "" || m.IntN(4) == 0 {
		name = m.name("device")
		t.section("devices")[name] = map[string]any{"mac": fmt.Sprintf("52:54:00:dd:00:%02x", m.next&255), "owner": "kim", "purpose": "a test"}
	}
	zone := m.of(t.section("zones"))
	first, _ := t.net(zone)
	d := t.device(name)
	d["zone"] = zone
	if d["address"] = fmt.Sprintf("%s%d", first, 20+m.IntN(20)); m.IntN(3) == 0 {
		delete(d, "address")
	}
	return true
}

// toggle switches what a zone offers.
func (m *mutator) toggle(t tree) bool {
	z := t.zone(m.of(t.section("zones")))
	switch key := []string{"dhcp", "ping", "dns", "admin"}[m.IntN(4)]; {
	case z[key] == nil && key == "dns":
		z[key] = map[string]any{"force": true}
	case z[key] == nil:
		z[key] = key == "admin"
	default:
		delete(z, key)
	}
	return true
}

// change returns a changed file, with what was done to it.
func (m *mutator) change(from []byte) (data []byte, what string) {
	var done []string
	t, err := parseTree(from)
	if err != nil {
		panic(err) // it was in force
	}
	for want := 1 + m.IntN(3); len(done) < want; {
		kind := mutations[m.IntN(len(mutations))]
		if kind.make(m, t) {
			done = append(done, kind.name)
		}
	}
	return t.bytes(), strings.Join(done, ", ")
}

// broken returns a file that cannot be used, with why.
func (m *mutator) broken(from []byte) (data []byte, what string) {
	t, err := parseTree(from)
	if err != nil {
		panic(err) // it was in force
	}
	s := spoilers[m.IntN(len(spoilers))]
	return s.spoil(m, t), s.name
}
