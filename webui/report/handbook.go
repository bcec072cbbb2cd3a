package report

import (
	"fmt"
	"html/template"
	"net/netip"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
)

// Handbook is what somebody needs who has to look after the network and did not make it. It
// is made of the file, in which there are no secrets.
type Handbook struct {
	Box      string        `json:"box"`
	Domain   string        `json:"domain"`
	Timezone string        `json:"timezone"`
	Number   int           `json:"number"` // of the change that it describes
	Made     string        `json:"made"`
	Uplink   string        `json:"uplink"`
	Topology template.HTML `json:"-"`
	Parts    []Table       `json:"parts"` // each under a heading of its own
	Recovery []Step        `json:"recovery"`
}

// Table is a part of the handbook. All cells are text.
type Table struct {
	Title string     `json:"title"`
	Intro string     `json:"intro,omitempty"`
	Head  []string   `json:"head"`
	Rows  [][]string `json:"rows,omitempty"`
	Empty string     `json:"empty,omitempty"` // what is said without rows
}

// Step is something to do when things have gone wrong.
type Step struct {
	When string `json:"when"`
	Do   string `json:"do"`
}

// recovery are the ways back, the least first.
var recovery = []Step{
	{"A change has made something worse", "Undo it: History in these pages, or “bulkhead undo”. It is tried for two minutes like any change."},
	{"The pages cannot be reached after a change", "Wait. What nobody confirms is undone by itself, usually after two minutes, and after half an hour at the latest."},
	{"The box is closed, or nobody gets in", "Connect a screen and a keyboard, or the serial port. The console undoes changes, lets somebody in with a new claim code, and starts the system before this one."},
	{"An update has gone wrong", "The box goes back to the system before by itself if names, addresses and these pages do not work. The console can choose it, too."},
	{"A device behaves oddly", "Isolate it: Devices in these pages, or “bulkhead isolate NAME”. It reaches nothing then, and is told so."},
	{"The box is dead", "Flash the image on another machine, claim it, and restore a backup: “bulkhead restore FILE --identity KEY”. It asks which port is which. The old box must stay off."},
}

// NewHandbook writes it from a configuration, which is change number, and its matrix.
func NewHandbook(cfg *model.Config, m *api.Matrix, number int, now time.Time) *Handbook {
	h := &Handbook{
		Box: cfg.System.Name, Domain: cfg.System.Domain, Timezone: cfg.System.Timezone, Number: number,
		Made: now.In(cfg.System.Location).Format("2006-01-02 15:04 MST"), Uplink: uplinkText(cfg.Uplink), Topology: topology(cfg), Recovery: recovery,
	}
	zones := Table{Title: "Zones", Intro: "Machines of one zone reach each other without the box. Between zones nothing passes that no rule allows.", Head: []string{"Zone", "Port", "VLAN", "Network", "Box", "Addresses by DHCP", "Management"}}
	for _, z := range cfg.Zones {
		vlan := "–"
		if z.VLAN != 0 {
			vlan = fmt.Sprint(z.VLAN)
		}
		zones.Rows = append(zones.Rows, []string{z.Name, z.Port.Name, vlan, z.Subnet.String(), z.Gateway.String(), poolText(&z.DHCP), yes(z.Admin)})
	}
	devices := Table{Title: "Devices", Head: []string{"Device", "Zone", "Address", "MAC", "Owner", "Purpose"}, Empty: "None is in the file."}
	for _, d := range cfg.Devices {
		purpose := d.Purpose
		if d.Critical {
			purpose += " (critical)"
		}
		if d.Note != "" {
			purpose += " – " + d.Note
		}
		devices.Rows = append(devices.Rows, []string{d.Name, d.Zone.Name, addrText(d.Address), d.MAC.String(), d.Owner, purpose})
	}
	h.Parts = []Table{zones, devices, nameTable(cfg), matrixTable(m), ruleTable(cfg, now), forwardTable(cfg, now)}
	return h
}

func uplinkText(u *model.Uplink) string {
	if u == nil {
		return "There is no uplink."
	}
	text := "The uplink is port " + u.Port.Name
	if u.VLAN != 0 {
		text += fmt.Sprintf(", VLAN %d", u.VLAN)
	}
	if u.IPv4.Address.IsValid() {
		return fmt.Sprintf("%s, with the address %s by way of %s.", text, u.IPv4.Address, u.IPv4.Gateway)
	}
	return text + ", with an address by DHCP."
}

func poolText(d *model.DHCP) string {
	if !d.Enabled {
		return "none"
	}
	return fmt.Sprintf("%s to %s", d.Pool.First, d.Pool.Last)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "by DHCP"
	}
	return a.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "–"
}

// nameTable says what the box's DNS answers by itself. Which devices ask for names is in the
// zones.
func nameTable(cfg *model.Config) Table {
	t := Table{Title: "DNS names", Intro: "What the box answers by itself. " + resolversText(cfg), Head: []string{"Name", "Stands for", "Asked in zone"}, Empty: "None: no zone asks the box."}
	var asked []string
	for _, z := range cfg.Zones {
		if z.DNS.Enabled {
			asked = append(asked, z.Name)
			t.Rows = append(t.Rows, []string{cfg.System.Name + "." + cfg.System.Domain, z.Gateway.String() + ", the box", z.Name})
		}
	}
	if asked == nil {
		return t
	}
	everywhere := strings.Join(asked, ", ")
	for _, d := range cfg.Devices {
		t.Rows = append(t.Rows, []string{d.Name + "." + cfg.System.Domain, addrText(d.Address), everywhere})
	}
	for _, z := range cfg.Zones {
		for _, name := range z.DNS.Block {
			t.Rows = append(t.Rows, []string{name, "nothing, with all names below it", z.Name})
		}
	}
	return t
}

// resolversText says who is asked for all other names, and no names of secrets.
func resolversText(cfg *model.Config) string {
	if len(cfg.Resolvers) == 0 {
		return "For other names it asks the provider’s resolvers."
	}
	var list []string
	for _, r := range cfg.Resolvers {
		switch {
		case r.Secret != "":
			list = append(list, "one whose address is kept as a secret")
		case r.TLS:
			list = append(list, fmt.Sprintf("%s (%s, over TLS)", r.Addr, r.Name))
		default:
			list = append(list, r.Addr.String())
		}
	}
	return "For other names it asks these, in their order: " + strings.Join(list, "; ") + "."
}

func matrixTable(m *api.Matrix) Table {
	t := Table{Title: "Who may open connections to whom", Intro: "From the left to the top.", Head: append([]string{"from \\ to"}, m.Parties...)}
	cells := map[[2]string]*api.Cell{}
	for i := range m.Cells {
		cells[[2]string{m.Cells[i].From, m.Cells[i].To}] = &m.Cells[i]
	}
	for _, from := range m.Parties {
		row := []string{from}
		for _, to := range m.Parties {
			row = append(row, CellText(from, to, cells[[2]string{from, to}]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// CellText says what one party may open connections to at another; c is nil where nothing is
// said of the two.
func CellText(from, to string, c *api.Cell) string {
	switch {
	case from == to && (from == model.Box || from == model.Internet):
		return "–"
	case from == to:
		return "not through the box"
	case c == nil:
		return "nothing"
	}
	text := "nothing"
	switch {
	case c.All:
		text = "all"
	case c.Allows > 0:
		text = strings.Join(c.Words, "; ")
		if c.More > 0 {
			text += fmt.Sprintf("; %d more", c.More)
		}
	}
	if c.Blocks > 0 {
		text += fmt.Sprintf("; %d blocked", c.Blocks)
	}
	return text
}

func ruleTable(cfg *model.Config, now time.Time) Table {
	t := Table{Title: "Rules", Intro: "A block wins over everything that allows.", Head: []string{"Rule", "", "From", "To", "Services", "Why", "Owner", "Until"}, Empty: "There are none: nothing passes between zones."}
	add := func(kind string, list []*model.Rule) {
		for _, r := range list {
			if !r.Until.IsZero() && !now.Before(r.Until) {
				continue
			}
			t.Rows = append(t.Rows, []string{r.Name, kind, strings.Join(r.FromNames, ", "), strings.Join(r.ToNames, ", "), anyText(r.Protocols), r.Why, r.Owner, dayText(cfg, r.Until)})
		}
	}
	add("block", cfg.Block)
	add("allow", cfg.Allow)
	return t
}

func forwardTable(cfg *model.Config, now time.Time) Table {
	t := Table{Title: "Open to the internet", Intro: "Ports of the uplink’s address that lead to a device.", Head: []string{"Forward", "Services", "To", "Why", "Owner", "Until"}, Empty: "Nothing is."}
	for _, f := range cfg.Forwards {
		if f.Until.IsZero() || now.Before(f.Until) {
			t.Rows = append(t.Rows, []string{f.Name, strings.Join(f.Protocols, ", "), f.To.Name, f.Why, f.Owner, dayText(cfg, f.Until)})
		}
	}
	return t
}

func anyText(protocols []string) string {
	if len(protocols) == 0 {
		return "any"
	}
	return strings.Join(protocols, ", ")
}

// dayText is the last day on which something is so.
func dayText(cfg *model.Config, until time.Time) string {
	if until.IsZero() {
		return "–"
	}
	return until.In(cfg.System.Location).Add(-time.Second).Format(time.DateOnly)
}

// topology draws the box, its ports, and what is at each.
func topology(cfg *model.Config) template.HTML {
	const row, top = 44, 16
	var b strings.Builder
	height := top + row*max(len(cfg.Zones), 1)
	words := fmt.Sprintf("The box %s with %d zones", cfg.System.Name, len(cfg.Zones))
	fmt.Fprintf(&b, `<svg class="topology" viewBox="0 0 640 %d" role="img"><title>%s</title>`, height, template.HTMLEscapeString(words))
	middle := height / 2
	text := func(x, y int, class, s string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" class="%s">%s</text>`, x, y, class, template.HTMLEscapeString(s))
	}
	if cfg.Uplink != nil {
		fmt.Fprintf(&b, `<path d="M110 %d H200"/><rect x="10" y="%d" width="100" height="36" rx="18"/>`, middle, middle-18)
		text(60, middle+5, "mid", "internet")
		text(155, middle-6, "mid small", cfg.Uplink.Port.Name)
	}
	fmt.Fprintf(&b, `<rect class="box" x="200" y="%d" width="110" height="%d" rx="4"/>`, top/2, height-top)
	text(255, middle+5, "mid strong", cfg.System.Name)
	for i, z := range cfg.Zones {
		y := top/2 + row*i + row/2
		fmt.Fprintf(&b, `<path d="M310 %d H420"/><rect x="420" y="%d" width="210" height="34" rx="4"/>`, y, y-17)
		port := z.Port.Name
		if z.VLAN != 0 {
			port += fmt.Sprintf(" VLAN %d", z.VLAN)
		}
		text(365, y-6, "mid small", port)
		text(430, y-2, "strong", z.Name)
		text(430, y+12, "small", z.Subnet.String())
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// About says what the handbook is about, in words.
func (h *Handbook) About() string {
	return fmt.Sprintf("It describes change %d, and was written on %s. Devices are called NAME.%s; times are those of %s. %s", h.Number, h.Made, h.Domain, h.Timezone, h.Uplink)
}

// Markdown writes the handbook for people who keep it with other texts.
func (h *Handbook) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Handbook of %s\n\n%s\n", mdText(h.Box), mdText(h.About()))
	for _, t := range h.Parts {
		fmt.Fprintf(&b, "\n## %s\n", t.Title)
		if t.Intro != "" {
			fmt.Fprintf(&b, "\n%s\n", mdText(t.Intro))
		}
		if len(t.Rows) == 0 {
			fmt.Fprintf(&b, "\n%s\n", t.Empty)
			continue
		}
		b.WriteString("\n" + mdRow(t.Head) + "|" + strings.Repeat(" --- |", len(t.Head)) + "\n")
		for _, r := range t.Rows {
			b.WriteString(mdRow(r))
		}
	}
	b.WriteString("\n## When things have gone wrong\n\n")
	for _, s := range h.Recovery {
		fmt.Fprintf(&b, "* **%s.** %s\n", s.When, s.Do)
	}
	return b.String()
}

func mdRow(cells []string) string {
	var b strings.Builder
	b.WriteString("|")
	for _, c := range cells {
		b.WriteString(" " + mdText(c) + " |")
	}
	return b.String() + "\n"
}

// mdText writes a text so that Markdown means nothing by it.
var mdEscape = strings.NewReplacer(
	`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "#", `\#`, "!", `\!`, "~", `\~`, "\n", " ", "\r", " ",
)

func mdText(s string) string { return mdEscape.Replace(s) }
