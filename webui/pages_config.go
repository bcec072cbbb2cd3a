//go:build linux

package webui

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/conf/edit"
	"bulkhead/netcfg/model"
	"bulkhead/services/auth/access"
)

// configPages are lists of what the file says, and forms that edit it.
var configPages = []page{
	{"GET /rules", access.Read, "Rules", true, (*visit).rulesPage},
	{"GET /forwards", access.Read, "Forwards", true, (*visit).forwardsPage},
	{"GET /names", access.Read, "Names", true, (*visit).namesPage},
	{"GET /dhcp", access.Read, "DHCP", true, (*visit).dhcpPage},

	{"GET /rules/{rule}", access.Plan, "Edit a rule", false, (*visit).rulePage},
	{"POST /rules/{rule}", access.Plan, "Edit a rule", false, (*visit).setRule},
	{"POST /rules/{rule}/remove", access.Plan, "", false, (*visit).removeRule},
	{"GET /new/rule", access.Plan, "Add a rule", false, (*visit).newRule},
	{"POST /new/rule", access.Plan, "Add a rule", false, (*visit).addRule},
	{"GET /forwards/{forward}", access.Plan, "Edit a forward", false, (*visit).forwardPage},
	{"POST /forwards/{forward}", access.Plan, "Edit a forward", false, (*visit).setForward},
	{"POST /forwards/{forward}/remove", access.Plan, "", false, (*visit).removeForward},
	{"GET /new/forward", access.Plan, "Add a forward", false, (*visit).newForward},
	{"POST /new/forward", access.Plan, "Add a forward", false, (*visit).addForward},
	{"GET /names/{device}", access.Plan, "Edit a name", false, (*visit).namePage},
	{"POST /names/{device}", access.Plan, "Edit a name", false, (*visit).setName},
	{"POST /names/{device}/remove", access.Plan, "", false, (*visit).removeName},
	{"GET /new/name", access.Plan, "Add a name", false, (*visit).newName},
	{"POST /new/name", access.Plan, "Add a name", false, (*visit).addName},
	{"GET /dhcp/{zone}", access.Plan, "Edit DHCP", false, (*visit).zonePage},
	{"POST /dhcp/{zone}", access.Plan, "Edit DHCP", false, (*visit).setZone},

	{"GET /edit", access.Plan, "Edit the file", true, (*visit).editPage},
	{"POST /edit", access.Plan, "Edit the file", false, (*visit).edited},
}

// configuration is the file that was confirmed last, and what it says.
type configuration struct {
	*api.Entry
	*model.Config
}

// parsed is what the last file said that was read: a large one takes longer to read than a
// page may take.
type parsed struct {
	sum    [sha256.Size]byte
	config *model.Config
}

// config returns the configuration. Config is nil where the box has none yet.
func (v *visit) config() (*configuration, error) {
	e, err := v.newest()
	if err != nil || len(e.Data) == 0 {
		return &configuration{Entry: e}, err
	}
	sum := sha256.Sum256(e.Data)
	if p := v.s.parsed.Load(); p != nil && p.sum == sum {
		return &configuration{e, p.config}, nil
	}
	cfg, problems := conf.ParseConfirmed(e.Name, e.Data, time.Time{})
	if err := problems.Err(); err != nil {
		return nil, api.Tell(api.ErrInvalid, fmt.Errorf("the file of change %d cannot be read by this version: edit its text\n%w", e.Number, err))
	}
	v.s.parsed.Store(&parsed{sum, cfg})
	return &configuration{e, cfg}, nil
}

// known is config where the page is about something in it.
func (v *visit) known() (*configuration, error) {
	c, err := v.config()
	if err == nil && c.Config == nil {
		err = api.Unknown(fmt.Errorf("the box has no configuration yet"))
	}
	return c, err
}

// listing is a page of things that the file says.
type listing struct {
	Path, Query string
	Hint        string // what may be searched for
	Intro       string
	Add         string // address of the form that adds one; "": it is not for the visitor
	AddText     string
	Pending     bool // another file is being tried
	Empty       bool // there is no file
	Tables      []listTable
	Next        string // address of the next rows
	More        int    // rows that are there
}

type listTable struct {
	Caption, None string
	Head          []string
	Wide          int // the column that is long
	MayEdit       bool
	Rows          []listRow
}

type listRow struct {
	Cells []cell
	Line  int
	Edit  string // address of the form
}

// cell is a field of a row. The first names it.
type cell struct {
	Text, Link string
	Note       string // that counts: expired
	Uncut      bool   // in one line
}

// configRows is how many rows one page lists.
const configRows = 100

// matches reports whether every word of a search is in what a row says.
func (r listRow) matches(words []string) bool {
	text := ""
	for _, c := range r.Cells {
		text += strings.ToLower(c.Text+" "+c.Note) + "\n"
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func (v *visit) listing(c *configuration, hint string) *listing {
	return &listing{
		Path: v.URL.Path, Query: strings.TrimSpace(v.URL.Query().Get("q")), Hint: hint, Empty: c.Config == nil,
		Pending: v.look() != nil && v.look().Pending != nil,
	}
}

// table adds a table with the rows that are searched for, of which one page shows some.
// All tables of a page share the search; only the first has further pages.
func (v *visit) table(l *listing, t listTable, rows []listRow) {
	words := strings.Fields(strings.ToLower(l.Query))
	t.MayEdit = v.may(access.Plan)
	skip := 0
	if len(l.Tables) == 0 {
		skip, _ = strconv.Atoi(v.URL.Query().Get("from"))
		skip = max(0, skip)
	}
	found := 0
	for _, r := range rows {
		if !r.matches(words) {
			continue
		}
		if found++; found > skip && len(t.Rows) < configRows {
			t.Rows = append(t.Rows, r)
		}
	}
	if rest := found - skip - len(t.Rows); len(l.Tables) == 0 && rest > 0 {
		next := url.Values{"from": {strconv.Itoa(skip + len(t.Rows))}}
		if l.Query != "" {
			next.Set("q", l.Query)
		}
		l.Next, l.More = l.Path+"?"+next.Encode(), rest
	}
	if l.Query != "" {
		t.Caption += fmt.Sprintf(", with “%s”", l.Query)
	}
	l.Tables = append(l.Tables, t)
}

// lastDay is a cell with the last day of something.
func (v *visit) lastDay(until time.Time) cell {
	c := cell{Text: edit.LastDay(until), Uncut: true}
	now := time.Now()
	if st := v.look(); st != nil && !st.Now.IsZero() {
		now = st.Now
	}
	if !until.IsZero() && !now.Before(until) {
		c.Note = "expired"
	}
	return c
}

func (v *visit) rulesPage() error {
	c, err := v.config()
	if err != nil {
		return err
	}
	l := v.listing(c, "name, zone, protocol, why, owner")
	l.Intro = "What may be opened between zones, and what may not whatever is allowed. Their order means nothing."
	if v.may(access.Plan) {
		l.Add, l.AddText = "/new/rule", "Add a rule"
	}
	var rows []listRow
	for _, list := range []edit.List{edit.Allow, edit.Block} {
		for _, r := range c.rules(list) {
			rows = append(rows, listRow{
				Cells: []cell{
					{Text: r.Name}, {Text: string(list)},
					{Text: ruleText(r)}, {Text: r.Why}, {Text: r.Owner}, v.lastDay(r.Until),
				},
				Line: r.Pos.Line, Edit: "/rules/" + r.Name,
			})
		}
	}
	v.table(l, listTable{Caption: "Rules, as the file has them", None: "There is no rule: nothing passes between zones.", Wide: 3,
		Head: []string{"Rule", "Does", "What", "Why", "Owner", "Until"}}, rows)
	return v.show("listing", l)
}

// ruleText says what a rule is about.
func ruleText(r *model.Rule) string {
	return fmt.Sprintf("%s → %s: %s", strings.Join(r.FromNames, ", "), strings.Join(r.ToNames, ", "), strings.Join(r.Protocols, ", "))
}

// rules returns a list of rules. There is none without a file.
func (c *configuration) rules(l edit.List) []*model.Rule {
	switch {
	case c.Config == nil:
		return nil
	case l == edit.Allow:
		return c.Allow
	}
	return c.Block
}

func (v *visit) forwardsPage() error {
	c, err := v.config()
	if err != nil {
		return err
	}
	l := v.listing(c, "name, device, port, why, owner")
	l.Intro = "Doors to the internet: ports of the uplink’s address that lead to a device, the same port there."
	if v.may(access.Plan) {
		l.Add, l.AddText = "/new/forward", "Add a forward"
	}
	var rows []listRow
	if c.Config != nil {
		for _, f := range c.Forwards {
			rows = append(rows, listRow{
				Cells: []cell{
					{Text: f.Name}, {Text: strings.Join(f.Protocols, ", ")}, {Text: f.To.Name, Link: "/devices/" + f.To.Name},
					{Text: f.Why}, {Text: f.Owner}, v.lastDay(f.Until),
				},
				Line: f.Pos.Line, Edit: "/forwards/" + f.Name,
			})
		}
	}
	v.table(l, listTable{Caption: "Forwards, as the file has them", None: "There is no forward: the internet opens nothing.", Wide: 3,
		Head: []string{"Forward", "Ports", "To", "Why", "Owner", "Until"}}, rows)
	return v.show("listing", l)
}

func (v *visit) namesPage() error {
	c, err := v.config()
	if err != nil {
		return err
	}
	l := v.listing(c, "name, zone, address, owner, purpose")
	l.Intro = "What the box answers to questions for names of its own. A device’s name stands for its address."
	if v.may(access.Plan) {
		l.Add, l.AddText = "/new/name", "Add a name"
	}
	var names, domains []listRow
	if c.Config != nil {
		for _, z := range c.Zones {
			if !z.DNS.Enabled {
				continue
			}
			names = append(names, listRow{Cells: []cell{{Text: c.System.Name + "." + c.System.Domain}, {Text: z.Gateway.String()}, {Text: z.Name}, {Text: "the box, as the zone sees it"}, {}}, Line: z.Pos.Line})
			for _, b := range z.DNS.Block {
				domains = append(domains, listRow{Cells: []cell{{Text: b}, {Text: z.Name}}, Line: z.Pos.Line, Edit: "/dhcp/" + z.Name})
			}
		}
		for _, d := range c.Devices {
			names = append(names, listRow{
				Cells: []cell{{Text: d.Name + "." + c.System.Domain, Link: "/devices/" + d.Name}, {Text: addressOf(d)}, {Text: d.Zone.Name}, {Text: d.Purpose}, {Text: d.Owner}},
				Line:  d.Pos.Line, Edit: "/names/" + d.Name,
			})
		}
	}
	v.table(l, listTable{Caption: "Names, and what they stand for", None: "There is no name.", Wide: 3,
		Head: []string{"Name", "Address", "Zone", "Purpose", "Owner"}}, names)
	v.table(l, listTable{Caption: "Domains that are answered as if they did not exist", None: "No domain is.", Head: []string{"Domain", "In zone"}}, domains)
	return v.show("listing", l)
}

func addressOf(d *model.Device) string {
	if !d.Address.IsValid() {
		return "out of the pool"
	}
	return d.Address.String()
}

func (v *visit) dhcpPage() error {
	c, err := v.config()
	if err != nil {
		return err
	}
	l := v.listing(c, "device, address, MAC, zone, owner")
	l.Intro = "Which addresses are given out, and which belong to one device. A device with an address has it reserved."
	if v.may(access.Plan) {
		l.Add, l.AddText = "/new/name", "Add a reservation"
	}
	var reserved, zones []listRow
	if c.Config != nil {
		for _, d := range c.Devices {
			if d.Address.IsValid() {
				reserved = append(reserved, listRow{
					Cells: []cell{{Text: d.Name, Link: "/devices/" + d.Name}, {Text: d.Address.String()}, {Text: d.MAC.String()}, {Text: d.Zone.Name}, {Text: d.Purpose}, {Text: d.Owner}},
					Line:  d.Pos.Line, Edit: "/names/" + d.Name,
				})
			}
		}
		for _, z := range c.Zones {
			row := listRow{Cells: []cell{{Text: z.Name}, {Text: z.Subnet.String()}, {Text: "off"}, {}, {}}, Line: z.Pos.Line, Edit: "/dhcp/" + z.Name}
			if h := z.DHCP; h.Enabled {
				row.Cells[2].Text = fmt.Sprintf("%s to %s", h.Pool.First, h.Pool.Last)
				row.Cells[3].Text = leaseText(h.Lease)
				row.Cells[4].Text = joined(h.NTP)
			}
			zones = append(zones, row)
		}
	}
	v.table(l, listTable{Caption: "Addresses that are reserved", None: "No address is.", Wide: 4,
		Head: []string{"Device", "Address", "MAC", "Zone", "Purpose", "Owner"}}, reserved)
	v.table(l, listTable{Caption: "What zones give out", None: "There is no zone.", Head: []string{"Zone", "Network", "Pool", "For", "Time servers"}}, zones)
	return v.show("listing", l)
}

// leaseText says how long an address is given out for, as the file would.
func leaseText(d time.Duration) string {
	s := d.String()
	for _, none := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, none) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}

// joined writes several things as people do.
func joined[T fmt.Stringer](list []T) string {
	var s []string
	for _, v := range list {
		s = append(s, v.String())
	}
	return strings.Join(s, ", ")
}
