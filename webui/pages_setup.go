//go:build linux

package webui

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
)

// setupPages make the first configuration out of a few answers.
var setupPages = []page{
	{"GET /setup", access.Apply, "First configuration", false, (*visit).setupPage},
	{"POST /setup", access.Apply, "First configuration", false, (*visit).setUp},
}

// setup is what somebody answers who has a new box. Whoever wants more writes it into the
// file, here or later.
type setup struct {
	Name, Timezone string
	Internet       string // MAC address of the port; "": there is none
	Zones          []setupZone
}

// setupZone is one line of the form. The first is the zone from which the box is managed.
type setupZone struct {
	Name, Port, VLAN, Subnet string
	Internet                 bool // all of it is allowed
}

func (z *setupZone) empty() bool { return z.Name == "" && z.VLAN == "" }

// setupZones is how many zones the form has lines for.
const setupZones = 5

// setupView is the form, as it was filled in.
type setupView struct {
	setup
	Ports    []api.Port
	Problems []string
	Exists   bool // there is a configuration, which this would replace
}

func (v *visit) setupPage() error {
	view, err := v.setupView()
	if err != nil {
		return err
	}
	view.setup = suggestSetup(view.Ports)
	return v.show("setup", view)
}

func (v *visit) setupView() (view setupView, err error) {
	if view.Ports, err = v.box().Ports(v.Context()); err != nil {
		return view, err
	}
	if st := v.look(); st != nil {
		view.Exists = st.Mode != api.Setup
	}
	return view, nil
}

// suggestSetup is what most people want: the internet at the first port, and three zones at
// the second one.
func suggestSetup(ports []api.Port) setup {
	s := setup{Name: "gw", Timezone: "UTC"}
	mac := func(i int) string {
		if i < len(ports) {
			return ports[i].MAC.String()
		}
		return ""
	}
	s.Internet = mac(0)
	s.Zones = make([]setupZone, setupZones)
	s.Zones[0] = setupZone{"home", mac(1), "", "192.168.10.0/24", true}
	for i := range s.Zones[1:] {
		s.Zones[1+i].Port = mac(min(2, len(ports)-1))
		s.Zones[1+i].Subnet = fmt.Sprintf("192.168.%d.0/24", 20+10*i)
	}
	return s
}

// setUp shows what the file would do that the answers make, or the answers again.
func (v *visit) setUp() error {
	form, err := v.form(maxForm)
	if err != nil {
		return err
	}
	view, err := v.setupView()
	if err != nil {
		return err
	}
	view.setup = setupIn(form)
	file, problems := view.file(view.Ports)
	if problems != nil {
		view.Problems = problems
		return v.showAs(http.StatusUnprocessableEntity, "setup", view)
	}
	return v.propose(proposal{File: []byte(file), Why: "first configuration"})
}

func setupIn(form url.Values) setup {
	get := func(key string) string { return strings.TrimSpace(form.Get(key)) }
	s := setup{Name: get("name"), Timezone: get("timezone"), Internet: get("internet")}
	for i := range setupZones {
		n := strconv.Itoa(i)
		s.Zones = append(s.Zones, setupZone{get("zone" + n), get("port" + n), get("vlan" + n), get("subnet" + n), form.Get("web"+n) != ""})
	}
	return s
}

// What goes into the file needs no quotes: it has none of the characters that YAML knows.
var (
	setupName     = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)
	setupTimezone = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+/-]{0,63}$`)
)

// file writes the configuration, or says what is wrong with the answers. netcfgd checks all
// that is not a matter of this form.
func (s *setup) file(ports []api.Port) (text string, problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	known := func(mac string) bool {
		return slices.ContainsFunc(ports, func(p api.Port) bool { return p.MAC.String() == mac })
	}
	if !setupName.MatchString(s.Name) {
		wrong("Name of the box: write lower-case letters, digits and hyphens, such as gw.")
	}
	if !setupTimezone.MatchString(s.Timezone) {
		wrong("Time zone: write a name such as Europe/Berlin.")
	}
	if s.Internet != "" && !known(s.Internet) {
		wrong("Internet: choose one of the ports.")
	}
	var zones []setupZone
	for i, z := range s.Zones {
		if i > 0 && z.empty() {
			continue
		}
		n := i + 1
		if !setupName.MatchString(z.Name) {
			wrong("Zone %d: its name has lower-case letters, digits and hyphens, such as guest.", n)
		}
		if slices.ContainsFunc(zones, func(o setupZone) bool { return o.Name == z.Name }) {
			wrong("Zone %d: there is a zone %s already.", n, z.Name)
		}
		switch v, err := strconv.Atoi(z.VLAN); {
		case !known(z.Port):
			wrong("Zone %d: choose one of the ports.", n)
		case z.Port == s.Internet:
			wrong("Zone %d: its port is that of the internet.", n)
		case z.VLAN != "" && (err != nil || v < 1 || v > 4094):
			wrong("Zone %d: a VLAN is a number from 1 to 4094.", n)
		case slices.ContainsFunc(zones, func(o setupZone) bool { return o.Port == z.Port && (o.VLAN == "" || z.VLAN == "" || o.VLAN == z.VLAN) }):
			wrong("Zone %d: another zone has its port. Give both a VLAN, each another one.", n)
		}
		if p, err := netip.ParsePrefix(z.Subnet); err != nil || p != p.Masked() || !p.Addr().Is4() {
			wrong("Zone %d: its network is written like 192.168.10.0/24.", n)
		}
		zones = append(zones, z)
	}
	if problems != nil {
		return "", problems
	}
	return s.write(zones), nil
}

func (s *setup) write(zones []setupZone) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Nothing passes between zones unless a line of this file says so.\n\nsystem: {name: %s, timezone: %s}\n\nports:\n", s.Name, s.Timezone)
	names := portNames(zones)
	if s.Internet != "" {
		fmt.Fprintf(&b, "  wan: {mac: %q}\n", s.Internet)
	}
	for _, mac := range macsOf(zones) {
		fmt.Fprintf(&b, "  %s: {mac: %q}\n", names[mac], mac)
	}
	if s.Internet != "" {
		b.WriteString("\ninternet: {port: wan}\n")
	}
	b.WriteString("\nzones:\n")
	var out, others []string
	for i, z := range zones {
		fmt.Fprintf(&b, "  %s: {port: %s, ", z.Name, names[z.Port])
		if z.VLAN != "" {
			fmt.Fprintf(&b, "vlan: %s, ", z.VLAN)
		}
		fmt.Fprintf(&b, "subnet: %s", z.Subnet)
		if i == 0 {
			b.WriteString(", admin: true}   # from here you manage the box\n")
		} else {
			b.WriteString("}\n")
			others = append(others, z.Name)
		}
		if z.Internet && s.Internet != "" {
			out = append(out, z.Name)
		}
	}
	if out != nil {
		fmt.Fprintf(&b, "\nallow:\n  - name: browsing\n    from: [%s]\n    to: internet\n    protocols: any\n    why: outbound access\n", strings.Join(out, ", "))
	}
	if others != nil {
		fmt.Fprintf(&b, "\n# What must hold. A change that breaks one of these is refused.\ntests:\n  - {from: [%s], to: %s, protocols: any, expect: deny}\n", strings.Join(others, ", "), zones[0].Name)
	}
	return b.String()
}

func macsOf(zones []setupZone) (macs []string) {
	for _, z := range zones {
		if !slices.Contains(macs, z.Port) {
			macs = append(macs, z.Port)
		}
	}
	return macs
}

// portNames calls the ports that zones are at after the zone that has one for itself, or
// trunk.
func portNames(zones []setupZone) map[string]string {
	names := map[string]string{}
	trunks := 0
	for _, mac := range macsOf(zones) {
		i := slices.IndexFunc(zones, func(z setupZone) bool { return z.Port == mac })
		if zones[i].VLAN == "" && zones[i].Name != "wan" && !strings.HasPrefix(zones[i].Name, "trunk") {
			names[mac] = zones[i].Name
			continue
		}
		trunks++
		names[mac] = "trunk"
		if trunks > 1 {
			names[mac] += strconv.Itoa(trunks)
		}
	}
	return names
}
