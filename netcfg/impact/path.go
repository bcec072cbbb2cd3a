package impact

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reach"
)

// Path is what becomes of the way by which the author of the change reaches the box.
type Path struct {
	Address netip.Addr `json:"address,omitzero"` // the author's; zero: the change comes from the box itself
	Device  string     `json:"device,omitempty"` // of the inventory
	Zone    string     `json:"zone,omitempty"`   // so far
	Text    string     `json:"text"`
	// Moves says that the author must look for the box at another address, on another
	// wire or from another zone before confirming, and has more time for it.
	Moves bool `json:"moves,omitempty"`
	// At is where the box can be managed afterwards: the author's own way first.
	At []Door `json:"at,omitempty"`
}

// Door is an admin zone from which the box can be reached.
type Door struct {
	Zone    string     `json:"zone"`
	Place   string     `json:"place"` // VLAN 10 of port trunk
	Address netip.Addr `json:"address"`
}

func (d Door) String() string {
	return fmt.Sprintf("https://%s (zone %s, %s)", d.Address, d.Zone, d.Place)
}

// Path says what becomes of the author's way to the box. A reason is returned with it
// if the change locks out: if no admin zone reaches the box afterwards, or if the
// author's way ends and there is no other admin zone to go to. A zone that keeps its
// name and is an admin zone somewhere else is another one in this sense.
//
// Nothing of it is taken from the policy alone: the compiled rules are asked what they
// do with the first packet of a connection to the management pages.
func (c Change) Path() (*Path, string) {
	g := guardOf(c)
	doors := g.doors()
	from := c.Old.Policy.Config.ZoneOf(c.Author)
	if from == nil {
		return g.fromOutside(doors)
	}
	p := &Path{Address: c.Author, Zone: from.Name}
	who := fmt.Sprintf("You are at %s in zone %s", c.Author, from.Name)
	if d := c.Old.device(c.Author); d != nil {
		p.Device = d.Name
		who = fmt.Sprintf("You are %s (%s) in zone %s", d.Name, c.Author, from.Name)
	}
	here := onWire(c.New.Policy.Config, wireOf(from.Port, from.VLAN))
	closed := g.closed(from, here)
	if closed == "" {
		p.At = first(doors, here.Name)
		p.Text, p.Moves = g.stays(who, from, here)
		return p, ""
	}
	if here != nil && here.Admin { // it is open to others, and no way for the author
		doors = slices.DeleteFunc(doors, func(d Door) bool { return d.Zone == here.Name })
	}
	if len(doors) == 0 {
		p.Text = who + ", and lose the way to the box: " + closed + "."
		return p, closed + ", and no other admin zone reaches the box" + g.blame(cmp.Or(here, g.New.Policy.Config.Zone(from.Name)))
	}
	doors = first(doors, from.Name)
	p.At, p.Moves = doors, true
	if n := c.New.Policy.Config.Zone(from.Name); n != nil && doors[0].Zone == from.Name {
		p.Text = fmt.Sprintf("%s. %s.", who, upper(moved("zone "+from.Name, from.Port, from.VLAN, n.Port, n.VLAN)))
		if n.Subnet != from.Subnet {
			p.Text += fmt.Sprintf(" Its subnet is %s instead of %s.", n.Subnet, from.Subnet)
		}
	} else {
		p.Text = fmt.Sprintf("%s, and lose that way to the box: %s.", who, closed)
	}
	p.Text += " Afterwards the box is at " + list(doors) + ". " + hurry
	return p, ""
}

// hurry is what an author must know whose way to the box moves. The time is that of
// transactions whose management address changes.
const hurry = "Confirm from there within 5 minutes, unless you set another time, or everything comes back as it was."

// stays says what becomes of the author who stays where they are.
func (g *guard) stays(who string, from, here *model.Zone) (text string, moves bool) {
	at := "https://" + here.Gateway.String()
	switch {
	case from.Subnet != here.Subnet:
		get := "Your machine needs another address for that, which it gets when it connects anew"
		if !here.DHCP.Enabled {
			get = "Give your machine another address for that by hand"
		}
		return fmt.Sprintf("%s, which moves from %s to %s. Afterwards the box is at %s. %s. %s", who, from.Subnet, here.Subnet, at, get, hurry), true
	case from.Gateway != here.Gateway:
		return fmt.Sprintf("%s. Afterwards the box is at %s. %s", who, at, hurry), true
	case from.Name != here.Name:
		return fmt.Sprintf("%s, which is called %s from now on. Your way to the box stays: %s.", who, here.Name, at), false
	}
	return fmt.Sprintf("%s. Your way to the box stays: %s.", who, at), false
}

// guard asks the compiled rules of the new configuration.
type guard struct {
	Change
	walker *reach.Walker // nil: there are none
}

func guardOf(c Change) *guard {
	g := &guard{Change: c}
	if c.New.State.Ruleset.Table != nil {
		g.walker = reach.New(c.New.State)
	}
	return g
}

// fromOutside is for an author whose address is in no zone: at the box itself, or by
// a way that is not the box's to judge.
func (g *guard) fromOutside(doors []Door) (*Path, string) {
	p := &Path{Address: g.Author, At: doors}
	who := ""
	if g.Author.IsValid() {
		who = fmt.Sprintf("You are at %s, which is in none of the zones. ", g.Author)
	}
	if len(doors) > 0 {
		p.Text = who + "The box is managed at " + list(doors) + "."
		return p, ""
	}
	if len(g.Old.Policy.Config.Zones) > 0 && len(guardOf(Change{New: g.Old}).doors()) == 0 {
		p.Text = who + "No admin zone reaches the box, as before" + g.blame(nil) + "."
		return p, ""
	}
	p.Text = who + "No admin zone reaches the box afterwards."
	return p, "no admin zone reaches the box afterwards" + g.blame(nil)
}

// doors lists the admin zones of the new configuration that reach the box: from where
// some machine's connection to the management pages is let in.
func (g *guard) doors() []Door {
	var doors []Door
	for _, z := range g.New.Policy.Config.Zones {
		if g.open(z) {
			doors = append(doors, Door{z.Name, place(z.Port, z.VLAN), z.Gateway})
		}
	}
	return doors
}

func (g *guard) open(z *model.Zone) bool {
	link := g.New.link(z)
	if link == "" || !z.Admin || g.walker == nil {
		return false
	}
	return slices.ContainsFunc(g.New.Policy.Hosts(model.Endpoint{Kind: model.KindZone, Zone: z}), func(h policy.Host) bool {
		m := machine{link: link, addr: h.Addr}
		if h.Device != nil {
			m.mac = h.Device.MAC
		}
		return g.letIn(m, z)
	})
}

func (g *guard) letIn(m machine, z *model.Zone) bool {
	r := g.walker.Walk(management(m, z.Gateway))
	return r.Accepted && r.Out == ""
}

// closed says why the author no longer gets to the box from where they are: from the
// wire of a zone, on which another (or none, nil) is now. It returns "" if they do.
func (g *guard) closed(from, here *model.Zone) string {
	byName := g.New.Policy.Config.Zone(from.Name)
	switch {
	case here == nil && byName == nil:
		return fmt.Sprintf("your zone %s is removed", from.Name)
	case here == nil && g.New.link(byName) == "":
		return fmt.Sprintf("your zone %s is cut off: %s", from.Name, g.New.lacks(byName))
	case here == nil:
		return moved("your zone "+from.Name, from.Port, from.VLAN, byName.Port, byName.VLAN)
	case !here.Admin && here.Name == from.Name:
		return fmt.Sprintf("your zone %s is no admin zone any more", from.Name)
	case !here.Admin:
		return fmt.Sprintf("%s is zone %s now, which is no admin zone", place(here.Port, here.VLAN), here.Name)
	case g.New.link(here) == "": // a VLAN that the kernel can no longer make
		return fmt.Sprintf("your zone %s is cut off: %s", here.Name, g.New.lacks(here))
	}
	m := g.author(here)
	if g.walker != nil && g.letIn(m, here) {
		return ""
	}
	return g.refusal(m, here)
}

// author is the author's machine as it will be in a zone: with the address that it
// has if that is one of the zone's, or the one that it is given there.
func (g *guard) author(z *model.Zone) machine {
	m := machine{link: g.New.link(z), addr: g.Author, mac: g.macOf(g.Author)}
	i := slices.IndexFunc(g.New.Policy.Config.Devices, func(d *model.Device) bool { return d.MAC == m.mac && d.Zone == z })
	if i >= 0 {
		if a := g.New.Policy.AddressOf(g.New.Policy.Config.Devices[i]); a.IsValid() && a != m.addr {
			m.addr = a
		}
		return m
	}
	if z.Subnet.Contains(m.addr) && m.addr != z.Gateway && m.addr != policy.Broadcast(z.Subnet) {
		return m
	}
	for _, h := range g.New.Policy.Hosts(model.Endpoint{Kind: model.KindZone, Zone: z}) {
		if h.Device == nil {
			m.addr = h.Addr
			break
		}
	}
	return m
}

// macOf returns the MAC behind an address: the inventory's, or that of its lease. It is
// zero if neither says.
func (c Change) macOf(a netip.Addr) model.MAC {
	if d := c.Old.device(a); d != nil {
		return d.MAC
	}
	for _, l := range c.Leases {
		if l.Address == a {
			return l.MAC
		}
	}
	return model.MAC{}
}

// refusal says why a machine's connection is refused in a zone that is an admin zone.
func (g *guard) refusal(m machine, z *model.Zone) string {
	p := management(m, z.Gateway)
	d := g.New.Policy.Decide(policy.Flow{From: z.Name, MAC: m.mac, Src: m.addr, Dst: z.Gateway, Proto: p.Proto, SrcPort: p.SrcPort, Port: p.Port})
	switch owner := g.New.device(m.addr); {
	case d.Rule != nil && d.Rule.Block:
		return fmt.Sprintf("block %s (%s) closes the box to you", d.Rule.Name, d.Rule.Pos)
	case d.Reason == policy.Isolated:
		return fmt.Sprintf("your machine, %s, is isolated then", m.addr)
	case d.Reason == policy.Borrowed && owner != nil && owner.MAC != m.mac:
		return fmt.Sprintf("your address %s belongs to device %s now, which is another machine", m.addr, owner.Name)
	case d.Reason == policy.Borrowed:
		return fmt.Sprintf("your machine may use the box from its own address only, and not from %s", m.addr)
	}
	return fmt.Sprintf("the rules do not let %s in any more", m.addr)
}

// blame says what is wrong with each admin zone but one (nil: none).
func (g *guard) blame(but *model.Zone) string {
	var list []string
	for _, z := range g.New.Policy.Config.Zones {
		switch {
		case !z.Admin || z == but:
		case g.New.link(z) == "":
			list = append(list, fmt.Sprintf("zone %s: %s", z.Name, g.New.lacks(z)))
		default:
			list = append(list, fmt.Sprintf("zone %s lets nobody in", z.Name))
		}
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, "; ") + ")"
}

// first puts the door of a zone before the others.
func first(doors []Door, zone string) []Door {
	doors = slices.Clone(doors)
	slices.SortStableFunc(doors, func(a, b Door) int {
		switch {
		case a.Zone == zone && b.Zone != zone:
			return -1
		case b.Zone == zone && a.Zone != zone:
			return 1
		}
		return 0
	})
	return doors
}

func list(doors []Door) string {
	texts := make([]string, len(doors))
	for i, d := range doors {
		texts[i] = d.String()
	}
	return strings.Join(texts, ", or ")
}

// upper makes the first letter a capital.
func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
