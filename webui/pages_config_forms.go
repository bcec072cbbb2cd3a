//go:build linux

package webui

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf/edit"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// editForm is a form that edits one entry of the file, as it was filled in.
type editForm struct {
	Head     string
	Action   string // address that it is sent to
	Intro    string
	Line     int // of the entry; 0: it is new
	Fields   []*formField
	Problems []*diag.Problem // that are about no field
	Changed  bool            // somebody else has changed the entry since the form was made
	Was      string          // digest of the entry as it was then
	Remove   string          // address that removes it; "": it cannot be
	Noun     string          // what it is
	Names    []string        // that may stand where zones and devices are named
	Back     string          // the list
}

func (f *editForm) title() string { return f.Head }

// formField is one field.
type formField struct {
	Name, Label, Value string
	Help               string
	Kind               string   // text, date, checkbox, select or lines
	Options            []string // of select
	Required           bool
	Problems           []*diag.Problem
}

// Described are the ids of what is said of a field.
func (f *formField) Described() string {
	var ids []string
	if len(f.Problems) > 0 {
		ids = append(ids, f.Name+"-problem")
	}
	if f.Help != "" {
		ids = append(ids, f.Name+"-help")
	}
	return strings.Join(ids, " ")
}

// Wrong is what is wrong with a field, in sentences.
func (f *formField) Wrong() (list []string) {
	for _, p := range f.Problems {
		list = append(list, asSentence(p.Msg)+" "+asSentence(p.Hint))
	}
	return list
}

// asSentence makes one of a problem's text.
func asSentence(s string) string {
	if s == "" || strings.HasSuffix(s, "?") {
		return upperFirst(s)
	}
	return upperFirst(s) + "."
}

// Said reports whether a checkbox is on.
func (f *formField) Said() bool { return f.Value == "true" }

func (f *editForm) field(name string) *formField {
	i := slices.IndexFunc(f.Fields, func(field *formField) bool { return field.Name == name })
	if i < 0 {
		return nil
	}
	return f.Fields[i]
}

// fill puts in what was sent.
func (f *editForm) fill(sent url.Values) {
	for _, field := range f.Fields {
		if field.Kind == "checkbox" {
			field.Value = ""
			if sent.Has(field.Name) {
				field.Value = "true"
			}
		} else if sent.Has(field.Name) {
			field.Value = strings.TrimSpace(sent.Get(field.Name))
		}
	}
}

func (f *editForm) get(name string) string { return f.field(name).Value }

// list reads a field of words that commas or spaces part.
func (f *editForm) list(name string) []string {
	return strings.FieldsFunc(f.get(name), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}

// blame shows problems at the fields that they are about.
func (f *editForm) blame(list diag.List) {
	for _, p := range list.Sorted() {
		if p.Severity == diag.Warning {
			continue
		}
		field := f.field(p.Key[strings.LastIndexByte(p.Key, '.')+1:])
		if field == nil && strings.Contains(p.Msg, "is already") {
			field = f.field("name") // of a device: its key
		}
		if field == nil {
			f.Problems = append(f.Problems, p)
		} else {
			field.Problems = append(field.Problems, p)
		}
	}
}

// digest tells one state of an entry from another.
func digest(entry any) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%+v", entry)))
}

// sent reads the form, and reports whether the entry is as it was when the form was made.
func (v *visit) sent(f *editForm) (same bool, err error) {
	values, err := v.form(maxForm)
	if err != nil {
		return false, err
	}
	f.fill(values)
	return f.Was == "" || values.Get("was") == f.Was, nil
}

// change proposes the file with edits, or shows the form again with what is wrong.
func (v *visit) change(c *configuration, f *editForm, same bool, why string, edits ...edit.Edit) error {
	if !same {
		f.Changed = true
		return v.showAs(http.StatusConflict, "entry", f)
	}
	file, err := edit.Apply(c.Data, edits...)
	if refused, ok := errors.AsType[*edit.Refused](err); ok {
		f.blame(refused.Problems)
		return v.showAs(http.StatusUnprocessableEntity, "entry", f)
	}
	if err != nil {
		f.Problems = append(f.Problems, &diag.Problem{Msg: err.Error()})
		return v.showAs(http.StatusUnprocessableEntity, "entry", f)
	}
	return v.propose(proposal{File: file, Why: why})
}

const endpointHelp = "Zones, devices, groups, addresses, internet or box, with commas between them."

func ruleForm(c *configuration, r edit.Rule) *editForm {
	return &editForm{Noun: "rule", Back: "/rules", Names: c.EndpointNames(), Fields: []*formField{
		{Name: "name", Label: "Name", Value: r.Name, Help: "Lower-case letters, digits and hyphens. Logs and pages show it.", Required: true},
		{Name: "from", Label: "From", Value: strings.Join(r.From, ", "), Help: endpointHelp, Required: true},
		{Name: "to", Label: "To", Value: strings.Join(r.To, ", "), Help: endpointHelp, Required: true},
		{Name: "protocols", Label: "Protocols", Value: strings.Join(r.Protocols, ", "), Help: "Such as https, ssh, tcp/8080 or any, with commas between them. To block, none means any."},
		{Name: "why", Label: "Why", Value: r.Why, Required: true},
		{Name: "owner", Label: "Owner", Value: r.Owner, Help: "Who answers for it. It may stay empty."},
		{Name: "expires", Label: "Last day", Value: r.Expires, Kind: "date", Help: "After it the rule is gone by itself. Empty: it stays."},
	}}
}

func (f *editForm) rule() edit.Rule {
	return edit.Rule{
		Name: f.get("name"), From: f.list("from"), To: f.list("to"), Protocols: f.list("protocols"),
		Why: f.get("why"), Owner: f.get("owner"), Expires: f.get("expires"),
	}
}

func addRuleForm(c *configuration) *editForm {
	f := ruleForm(c, edit.Rule{})
	f.Action = "/new/rule"
	f.Fields = append([]*formField{{
		Name: "list", Label: "Does", Value: "allow", Kind: "select", Options: []string{"allow", "block"},
		Help: "A block holds whatever is allowed.",
	}}, f.Fields...)
	f.Head = "Add a rule"
	return f
}

// newRule is the form, with what the address says filled in: so rules are drafted from flows.
func (v *visit) newRule() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addRuleForm(c)
	f.fill(v.URL.Query())
	return v.show("entry", f)
}

func (v *visit) addRule() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addRuleForm(c)
	if _, err := v.sent(f); err != nil {
		return err
	}
	list := edit.Allow
	if f.get("list") == "block" {
		list = edit.Block
	}
	r := f.rule()
	return v.change(c, f, true, "add rule "+r.Name, edit.AddRule(list, r))
}

// ruleAsked is the rule that the address names, its list, and the form with it.
func (v *visit) ruleAsked() (c *configuration, f *editForm, list edit.List, err error) {
	if c, err = v.known(); err != nil {
		return c, nil, list, err
	}
	name := v.PathValue("rule")
	for _, list := range []edit.List{edit.Allow, edit.Block} {
		for _, r := range c.rules(list) {
			if r.Name != name {
				continue
			}
			written := edit.RuleOf(r)
			f := ruleForm(c, written)
			f.Head, f.Action = fmt.Sprintf("Edit rule %s", name), "/rules/"+name
			f.Intro = fmt.Sprintf("It is in the list “%s”.", list)
			f.Was, f.Line, f.Remove = digest(written), r.Pos.Line, f.Action+"/remove"
			return c, f, list, nil
		}
	}
	return c, nil, list, api.Unknown(fmt.Errorf("no rule is called %q", name))
}

func (v *visit) rulePage() error {
	_, f, _, err := v.ruleAsked()
	if err != nil {
		return err
	}
	return v.show("entry", f)
}

func (v *visit) setRule() error {
	c, f, list, err := v.ruleAsked()
	if err != nil {
		return err
	}
	same, err := v.sent(f)
	if err != nil {
		return err
	}
	r := f.rule()
	return v.change(c, f, same, "change rule "+r.Name, edit.SetRule(list, v.PathValue("rule"), r))
}

func (v *visit) removeRule() error {
	c, f, list, err := v.ruleAsked()
	if err != nil {
		return err
	}
	name := v.PathValue("rule")
	return v.change(c, f, true, "remove rule "+name, edit.RemoveRule(list, name))
}

func forwardForm(c *configuration, w edit.Forward) *editForm {
	var devices []string
	for _, d := range c.Devices {
		devices = append(devices, d.Name)
	}
	return &editForm{Noun: "forward", Back: "/forwards", Fields: []*formField{
		{Name: "name", Label: "Name", Value: w.Name, Help: "Lower-case letters, digits and hyphens. Logs and pages show it.", Required: true},
		{Name: "protocols", Label: "Ports", Value: strings.Join(w.Protocols, ", "), Help: "Such as tcp/443 or udp/51820, with commas between them.", Required: true},
		{Name: "to", Label: "To the device", Value: w.To, Kind: "select", Options: devices},
		{Name: "owner", Label: "Owner", Value: w.Owner, Help: "Who answers for the open port.", Required: true},
		{Name: "why", Label: "Why", Value: w.Why, Required: true},
		{Name: "expires", Label: "Last day", Value: w.Expires, Kind: "date", Help: "After it the port is closed.", Required: true},
	}}
}

func (f *editForm) forward() edit.Forward {
	return edit.Forward{
		Name: f.get("name"), Protocols: f.list("protocols"), To: f.get("to"),
		Owner: f.get("owner"), Why: f.get("why"), Expires: f.get("expires"),
	}
}

func addForwardForm(c *configuration) *editForm {
	f := forwardForm(c, edit.Forward{})
	f.Head, f.Action = "Add a forward", "/new/forward"
	f.Intro = "Whoever is on the internet may open these ports of the device then."
	return f
}

func (v *visit) newForward() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addForwardForm(c)
	f.fill(v.URL.Query())
	return v.show("entry", f)
}

func (v *visit) addForward() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addForwardForm(c)
	if _, err := v.sent(f); err != nil {
		return err
	}
	w := f.forward()
	return v.change(c, f, true, "add forward "+w.Name, edit.AddForward(w))
}

func (v *visit) forwardAsked() (*configuration, *editForm, error) {
	c, err := v.known()
	if err != nil {
		return nil, nil, err
	}
	name := v.PathValue("forward")
	for _, w := range c.Forwards {
		if w.Name == name {
			written := edit.ForwardOf(w)
			f := forwardForm(c, written)
			f.Head, f.Action = fmt.Sprintf("Edit forward %s", name), "/forwards/"+name
			f.Was, f.Line, f.Remove = digest(written), w.Pos.Line, f.Action+"/remove"
			return c, f, nil
		}
	}
	return nil, nil, api.Unknown(fmt.Errorf("no forward is called %q", name))
}

func (v *visit) forwardPage() error {
	_, f, err := v.forwardAsked()
	if err != nil {
		return err
	}
	return v.show("entry", f)
}

func (v *visit) setForward() error {
	c, f, err := v.forwardAsked()
	if err != nil {
		return err
	}
	same, err := v.sent(f)
	if err != nil {
		return err
	}
	w := f.forward()
	return v.change(c, f, same, "change forward "+w.Name, edit.SetForward(v.PathValue("forward"), w))
}

func (v *visit) removeForward() error {
	c, f, err := v.forwardAsked()
	if err != nil {
		return err
	}
	name := v.PathValue("forward")
	return v.change(c, f, true, "remove forward "+name, edit.RemoveForward(name))
}

// nameForm is of a device: it is what names and reservations are written as.
func nameForm(c *configuration, d edit.Device) *editForm {
	var zones []string
	for _, z := range c.Zones {
		zones = append(zones, z.Name)
	}
	critical := ""
	if d.Critical {
		critical = "true"
	}
	return &editForm{Noun: "device", Back: "/names", Fields: []*formField{
		{Name: "name", Label: "Name", Value: d.Name, Help: "The device is " + "NAME." + c.System.Domain + " then. Rules that name it follow a new name.", Required: true},
		{Name: "zone", Label: "Zone", Value: d.Zone, Kind: "select", Options: zones},
		{Name: "mac", Label: "MAC address", Value: d.MAC, Help: "Of its network card, such as 52:54:00:12:34:56.", Required: true},
		{Name: "address", Label: "Address", Value: d.Address, Help: "DHCP reserves it. Empty: one out of the zone’s pool."},
		{Name: "owner", Label: "Owner", Value: d.Owner},
		{Name: "purpose", Label: "Purpose", Value: d.Purpose},
		{Name: "note", Label: "Note", Value: d.Note, Help: "What else people should know."},
		{Name: "critical", Label: "Critical: somebody is told when it is attacked", Value: critical, Kind: "checkbox"},
	}}
}

func (f *editForm) device() edit.Device {
	return edit.Device{
		Name: f.get("name"), Zone: f.get("zone"), MAC: f.get("mac"), Address: f.get("address"),
		Owner: f.get("owner"), Purpose: f.get("purpose"), Note: f.get("note"), Critical: f.field("critical").Said(),
	}
}

func addNameForm(c *configuration) *editForm {
	f := nameForm(c, edit.Device{})
	f.Head, f.Action = "Add a name or a reservation", "/new/name"
	f.Intro = "A device has a name, and may have an address that nobody else gets."
	return f
}

func (v *visit) newName() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addNameForm(c)
	f.fill(v.URL.Query())
	return v.show("entry", f)
}

func (v *visit) addName() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	f := addNameForm(c)
	if _, err := v.sent(f); err != nil {
		return err
	}
	d := f.device()
	return v.change(c, f, true, "add device "+d.Name, edit.AddDevice(d))
}

func (v *visit) nameAsked() (*configuration, *editForm, error) {
	c, err := v.known()
	if err != nil {
		return nil, nil, err
	}
	name := v.PathValue("device")
	d := c.Device(name)
	if d == nil {
		return nil, nil, api.Unknown(fmt.Errorf("no device is called %q", name))
	}
	written := edit.DeviceOf(d)
	f := nameForm(c, written)
	f.Head, f.Action = fmt.Sprintf("Edit device %s", name), "/names/"+name
	f.Was, f.Line, f.Remove = digest(written), d.Pos.Line, f.Action+"/remove"
	return c, f, nil
}

func (v *visit) namePage() error {
	_, f, err := v.nameAsked()
	if err != nil {
		return err
	}
	return v.show("entry", f)
}

func (v *visit) setName() error {
	c, f, err := v.nameAsked()
	if err != nil {
		return err
	}
	same, err := v.sent(f)
	if err != nil {
		return err
	}
	d := f.device()
	return v.change(c, f, same, "change device "+d.Name, edit.SetDevice(v.PathValue("device"), d))
}

func (v *visit) removeName() error {
	c, f, err := v.nameAsked()
	if err != nil {
		return err
	}
	name := v.PathValue("device")
	return v.change(c, f, true, "remove device "+name, edit.RemoveDevice(name))
}

// zoneServices is what the file says that a zone's DHCP and DNS do.
type zoneServices struct {
	DHCP edit.DHCP
	DNS  edit.DNS
}

func (v *visit) zoneAsked() (*configuration, *editForm, error) {
	c, err := v.known()
	if err != nil {
		return nil, nil, err
	}
	name := v.PathValue("zone")
	z := c.Zone(name)
	if z == nil {
		return nil, nil, api.Unknown(fmt.Errorf("no zone is called %q", name))
	}
	var s zoneServices
	if s.DHCP, err = edit.DHCPOf(c.Data, name); err != nil {
		return nil, nil, err
	}
	if s.DNS, err = edit.DNSOf(c.Data, name); err != nil {
		return nil, nil, err
	}
	on := func(off bool) string { return fmt.Sprint(!off) }
	f := &editForm{
		Head: "DHCP and DNS of zone " + name, Action: "/dhcp/" + name, Noun: "zone", Back: "/dhcp", Was: digest(s), Line: z.Pos.Line,
		Intro: fmt.Sprintf("The zone has %s, the box is %s in it.", z.Subnet, z.Gateway),
		Fields: []*formField{
			{Name: "dhcp", Label: "Give out addresses", Value: on(s.DHCP.Off), Kind: "checkbox"},
			{Name: "pool", Label: "Pool", Value: s.DHCP.Pool, Help: poolHelp(z)},
			{Name: "lease", Label: "For", Value: s.DHCP.Lease, Help: "A time such as 12h or 30m. Empty: 12h."},
			{Name: "ntp", Label: "Time servers", Value: strings.Join(s.DHCP.NTP, ", "), Help: "Addresses, with commas between them. They may stay empty."},
			{Name: "dns", Label: "Answer questions for names", Value: on(s.DNS.Off), Kind: "checkbox"},
			{Name: "block", Label: "Domains that do not exist here", Value: strings.Join(s.DNS.Block, "\n"), Kind: "lines", Help: "One in each line, with all below it."},
			{Name: "force", Label: "Answer questions to other DNS servers, too", Value: fmt.Sprint(s.DNS.Force), Kind: "checkbox"},
		},
	}
	return c, f, nil
}

// poolHelp says what a pool looks like, and what is given out without one.
func poolHelp(z *model.Zone) string {
	if !z.DHCP.Enabled {
		return "First and last address. Empty: the upper half of the network."
	}
	return fmt.Sprintf("First and last address. Now: %s-%s. Empty: the upper half of the network.", z.DHCP.Pool.First, z.DHCP.Pool.Last)
}

func (v *visit) zonePage() error {
	_, f, err := v.zoneAsked()
	if err != nil {
		return err
	}
	return v.show("entry", f)
}

func (v *visit) setZone() error {
	c, f, err := v.zoneAsked()
	if err != nil {
		return err
	}
	same, err := v.sent(f)
	if err != nil {
		return err
	}
	name := v.PathValue("zone")
	h := edit.DHCP{Off: !f.field("dhcp").Said(), Pool: strings.ReplaceAll(f.get("pool"), " ", ""), Lease: f.get("lease"), NTP: f.list("ntp")}
	s := edit.DNS{Off: !f.field("dns").Said(), Block: f.list("block"), Force: f.field("force").Said()}
	return v.change(c, f, same, "change DHCP and DNS of zone "+name, edit.SetDHCP(name, h), edit.SetDNS(name, s))
}
