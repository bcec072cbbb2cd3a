//go:build linux

package webui

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

// devicePages are about the machines in the network.
var devicePages = []page{
	{"GET /devices", access.Read, "Devices", true, (*visit).devicesPage},
	{"GET /devices/{device}", access.Read, "Device", false, (*visit).devicePage},
	{"POST /devices/{device}/isolate", access.Operate, "", false, (*visit).isolate},
	{"POST /devices/{device}/release", access.Operate, "", false, (*visit).release},
	{"GET /events", access.Read, "Events", true, (*visit).eventsPage},
}

// machine is one machine in the network, with all that parts of the box know of it. Of
// each of them at least one knows something.
type machine struct {
	MAC      model.MAC         // zero: only an address is known
	File     *api.Device       // nil: it is new, as nobody has written it down
	Seen     *inventory.Device // nil: it was never seen
	Leases   []svcconf.Lease   // in force
	Isolated *api.Isolation
}

// machines puts together what netcfgd and flowd know: what is in the file in its order,
// and then what is new, the latest first.
func machines(file []api.Device, seen []inventory.Device, leases []svcconf.Lease, isolated []api.Isolation) []machine {
	var list []machine
	byMAC := map[model.MAC]int{}
	of := func(mac model.MAC) *machine {
		i, ok := byMAC[mac]
		if !ok {
			i = len(list)
			byMAC[mac] = i
			list = append(list, machine{MAC: mac})
		}
		return &list[i]
	}
	for i := range file {
		of(file[i].MAC).File = &file[i]
	}
	for i := range seen {
		of(seen[i].MAC).Seen = &seen[i]
	}
	for _, l := range leases {
		m := of(l.MAC)
		m.Leases = append(m.Leases, l)
	}
	for i := range isolated {
		is := &isolated[i]
		at := slices.IndexFunc(list, func(m machine) bool { return m.isIn(is) })
		if at < 0 {
			at = len(list)
			list = append(list, machine{MAC: is.MAC})
		}
		list[at].Isolated = is
	}
	return list
}

// isIn reports whether an isolation is of the machine.
func (m *machine) isIn(is *api.Isolation) bool {
	if !is.MAC.IsZero() {
		return is.MAC == m.MAC
	}
	return slices.ContainsFunc(m.addresses(), func(a netip.Addr) bool { return slices.Contains(is.Addresses, a) })
}

// addresses are those of the machine, the one that it probably has first.
func (m *machine) addresses() (list []netip.Addr) {
	for _, l := range m.Leases {
		list = append(list, l.Address)
	}
	if m.Seen != nil {
		for _, u := range m.Seen.Addresses {
			list = append(list, u.Address)
		}
	}
	if m.File != nil && m.File.Address.IsValid() {
		list = append([]netip.Addr{m.File.Address}, list...)
	}
	if m.Isolated != nil {
		list = append(list, m.Isolated.Addresses...)
	}
	var once []netip.Addr
	for _, a := range list {
		if !slices.Contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// ID is what the machine is known by: its name in the file, its MAC, or its address.
func (m *machine) ID() string {
	switch {
	case m.File != nil:
		return m.File.Name
	case !m.MAC.IsZero():
		return m.MAC.String()
	}
	return m.Isolated.Machine
}

// Path is its page.
func (m *machine) Path() string { return "/devices/" + url.PathEscape(m.ID()) }

// New reports whether it is not in the file.
func (m *machine) New() bool { return m.File == nil }

// calls is what the machine calls itself, the latest first. It may say anything.
func (m *machine) calls() (names []string) {
	if m.Seen != nil {
		names = append(names, m.Seen.Hostnames...)
	}
	for _, l := range m.Leases {
		if l.Hostname != "" && !slices.Contains(names, l.Hostname) {
			names = append(names, l.Hostname)
		}
	}
	return names
}

// Title is how people call it. What it calls itself is in quotes.
func (m *machine) Title() string {
	if names := m.calls(); m.New() && len(names) > 0 {
		return "“" + names[0] + "”"
	}
	return m.ID()
}

// Zone is where it is, or was last.
func (m *machine) Zone() string {
	switch {
	case m.Seen != nil:
		return m.Seen.Zone
	case m.File != nil:
		return m.File.Zone
	case len(m.Leases) > 0:
		return m.Leases[0].Zone
	}
	return ""
}

// Private reports whether the MAC is made up.
func (m *machine) Private() bool { return m.MAC[0]&2 != 0 }

// Maker is who made its network card, as far as a list tells.
func (m *machine) Maker() string {
	if m.Seen == nil {
		return ""
	}
	return m.Seen.Vendor
}

// matches reports whether every word of a search is in what is said of the machine.
func (m *machine) matches(words []string) bool {
	text := fmt.Sprint(m.ID(), " ", m.MAC, " ", m.Maker(), " ", m.Zone(), " ", m.addresses(), " ", m.calls())
	if m.File != nil {
		text += fmt.Sprint(" ", m.File.Owner, " ", m.File.Purpose, " ", m.File.Note)
	}
	text = strings.ToLower(text)
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// machines asks for all machines. If flowd does not answer, blind says why: what was seen
// is missing then.
func (v *visit) machines() (list []machine, blind string, err error) {
	file, err1 := v.box().Devices(v.Context())
	isolated, err2 := v.box().Isolated(v.Context())
	if err := errors.Join(err1, err2); err != nil {
		return nil, "", err
	}
	leases, err := v.box().Leases(v.Context())
	if err != nil {
		v.s.log.Debug("ask for the leases", "err", err) // the status says what is wrong with them
	}
	seen, err := askFlowd[[]inventory.Device](v, "/v1/devices/seen", nil)
	if err != nil {
		blind = err.Error()
	}
	return machines(file, seen, leases, isolated), blind, nil
}

// deviceRows is how many devices one page lists.
const deviceRows = 60

// devicesView is a list of machines.
type devicesView struct {
	Blind string
	Views []tab
	Show  string
	Zones []string
	Zone  string
	Query string
	Rows  []deviceRow
	Found int
	Older string // address of the next page; "": there is none
}

// tab is one of several views of a page.
type tab struct {
	Title, Path string
	Count       int
	Here        bool
}

type deviceRow struct {
	*machine
	Address string
	Last    when
	Lease   when // when it ends
	Line    template.HTML
}

// deviceShows are the views of the list, by their names in the address.
var deviceShows = []struct {
	show, title string
	is          func(*machine) bool
}{
	{"", "All", func(*machine) bool { return true }},
	{"known", "In the file", func(m *machine) bool { return !m.New() }},
	{"new", "New", func(m *machine) bool { return m.New() }},
	{"isolated", "Isolated", func(m *machine) bool { return m.Isolated != nil }},
}

func (v *visit) devicesPage() error {
	list, blind, err := v.machines()
	if err != nil {
		return err
	}
	q := v.URL.Query()
	view := devicesView{Blind: blind, Show: q.Get("show"), Zone: q.Get("zone"), Query: strings.TrimSpace(q.Get("q"))}
	words := strings.Fields(strings.ToLower(view.Query))
	counts := make([]int, len(deviceShows))
	var found []*machine
	for i := range list {
		m := &list[i]
		if z := m.Zone(); z != "" && !slices.Contains(view.Zones, z) {
			view.Zones = append(view.Zones, z)
		}
		if view.Zone != "" && view.Zone != m.Zone() || !m.matches(words) {
			continue
		}
		for i, s := range deviceShows {
			if s.is(m) {
				counts[i]++
				if s.show == view.Show {
					found = append(found, m)
				}
			}
		}
	}
	slices.Sort(view.Zones)
	at := func(show string, page int) string {
		next := url.Values{}
		for name, value := range map[string]string{"show": show, "zone": view.Zone, "q": view.Query} {
			if value != "" {
				next.Set(name, value)
			}
		}
		if page > 1 {
			next.Set("page", strconv.Itoa(page))
		}
		if len(next) == 0 {
			return "/devices"
		}
		return "/devices?" + next.Encode()
	}
	for i, s := range deviceShows {
		view.Views = append(view.Views, tab{s.title, at(s.show, 1), counts[i], s.show == view.Show})
	}
	slices.SortStableFunc(found, func(a, b *machine) int { return cmp.Or(rank(a)-rank(b), b.last().Compare(a.last())) })
	view.Found = len(found)
	page := pageIn(q)
	rows, more := onPage(found, page, deviceRows)
	for _, m := range rows {
		view.Rows = append(view.Rows, v.deviceRow(m))
	}
	if more {
		view.Older = at(view.Show, page+1)
	}
	return v.show("devices", view)
}

// rank is in which order machines are looked at: those that somebody has to do something
// about come first.
func rank(m *machine) int {
	switch {
	case m.Isolated != nil:
		return 0
	case m.New():
		return 1
	}
	return 2
}

// last is when the machine was last seen.
func (m *machine) last() time.Time {
	if m.Seen == nil {
		return time.Time{}
	}
	return m.Seen.Last
}

// pageIn reads which page of a list is asked for.
func pageIn(q url.Values) int {
	n, err := strconv.Atoi(q.Get("page"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// onPage returns the part of a list that is on a page, from 1 on, and whether there is more.
func onPage[T any](list []T, page, rows int) (part []T, more bool) {
	if page > len(list)/rows+1 {
		return nil, false
	}
	list = list[(page-1)*rows:]
	if len(list) > rows {
		return list[:rows], true
	}
	return list, false
}

func (v *visit) deviceRow(m *machine) deviceRow {
	row := deviceRow{machine: m, Last: v.when(m.last()), Line: m.line()}
	if a := m.addresses(); len(a) > 0 {
		row.Address = a[0].String()
	}
	if len(m.Leases) > 0 {
		row.Lease = v.when(m.Leases[0].Expires)
	}
	return row
}

// hours are the bytes of the last hours, the oldest first.
func (m *machine) hours() []uint64 {
	if m.Seen == nil {
		return nil
	}
	return m.Seen.Traffic.Last(time.Now())
}

// line draws how much the machine sent and received in the last day. It is "" if that was
// nothing, as far as is known.
func (m *machine) line() template.HTML {
	var sum, top uint64
	list := m.hours()
	for _, n := range list {
		sum, top = sum+n, max(top, n)
	}
	if sum == 0 {
		return ""
	}
	return sparkline(fmt.Sprintf("%s in the last 24 hours, at most %s in one of them", bytesText(sum), bytesText(top)), list)
}

// deviceView is all about one machine.
type deviceView struct {
	*machine
	Blind     string
	First     when
	Last      when
	Calls     []string
	Line      template.HTML
	Hours     []hourRow
	Addresses []addressRow
	Past      []pastRow
	NoPast    string // why it is not known which addresses it had
	To, From  contacts
	NoReach   string // why it is not known whom it may reach
	Talks     []talkRow
	Names     []nameRow
	Refused   []refusedRow
	Events    []eventRow
	Until     when // of the isolation
	Since     when

	Error   string
	Isolate isolateForm
	Periods []period

	MayOperate, MayApply bool
}

func (d deviceView) title() string { return d.Title() }

// hourRow is how much a machine sent and received in an hour.
type hourRow struct {
	Hour  when // when it began
	Bytes string
}

// addressRow is an address that a machine has or had.
type addressRow struct {
	Address string
	Last    when // seen with it
	Granted when // last, by a lease that is in force
	Expires when
	Fixed   bool // it is in the file
	Given   bool // the box chose it, and keeps it for the device
}

// pastRow is an address that a machine had by a lease.
type pastRow struct {
	Address, Zone, Hostname string
	Given, Renewed, Ends    when // Renewed is zero if it never was
	Over                    bool
}

// contacts are what a machine may reach, or who may reach it.
type contacts struct {
	Caption, Way string
	Rows         []contact
}

// contact is something that a machine may reach, or that may reach it.
type contact struct {
	Other, Services, Rule, Why string
	Denied                     bool // an exception
	Ask                        string
}

// talkRow is whom a machine spoke with.
type talkRow struct {
	Peer, PeerPath, Zone, Service string
	Connections                   uint64
	Bytes                         string
	Last                          when
}

// nameRow is a name that a machine asked for.
type nameRow struct {
	Name        string
	Connections uint64
	Bytes       string
}

// refusedRow is what a machine tried and may not.
type refusedRow struct {
	To, Zone string
	Packets  uint64
}

// lookBack is how far back a page about a device looks into the records.
const lookBack = 7 * 24 * time.Hour

// isolateForm is what somebody has filled in.
type isolateForm struct{ Why, For string }

// period is how long a machine may be isolated.
type period struct {
	Value, Text string
}

var isolatePeriods = []period{{"", "until it is released"}, {"1h", "for an hour"}, {"8h", "for 8 hours"}, {"24h", "for a day"}, {"168h", "for a week"}}

// machine finds the machine that a path is about.
func (v *visit) machine() (m *machine, all []machine, blind string, err error) {
	all, blind, err = v.machines()
	if err != nil {
		return nil, nil, "", err
	}
	id := v.PathValue("device")
	i := slices.IndexFunc(all, func(m machine) bool {
		return m.ID() == id || !m.MAC.IsZero() && strings.EqualFold(m.MAC.String(), id)
	})
	if i < 0 {
		return nil, nil, "", api.Unknown(fmt.Errorf("no device is called %q, or has that MAC", id))
	}
	return &all[i], all, blind, nil
}

func (v *visit) devicePage() error {
	return v.showDevice(http.StatusOK, deviceView{})
}

// showDevice shows all about a machine, with what somebody has filled in and what is wrong
// with it.
func (v *visit) showDevice(status int, view deviceView) error {
	m, all, blind, err := v.machine()
	if err != nil {
		return err
	}
	view.machine, view.Blind, view.Periods = m, blind, isolatePeriods
	view.Calls, view.MayOperate, view.MayApply = m.calls(), v.may(access.Operate), v.may(access.Apply)
	if m.Seen != nil {
		view.First, view.Last = v.when(m.Seen.First), v.when(m.Seen.Last)
	}
	if m.Isolated != nil {
		view.Since, view.Until = v.when(m.Isolated.Since), v.when(m.Isolated.Until)
	}
	view.Line, view.Addresses = m.line(), v.addressRows(m)
	v.tellPast(&view)
	if view.Line != "" {
		hours, now := m.hours(), time.Now().Truncate(time.Hour)
		for i, n := range slices.Backward(hours) {
			view.Hours = append(view.Hours, hourRow{v.when(now.Add(time.Duration(i+1-len(hours)) * time.Hour)), bytesText(n)})
		}
	}
	if err := v.tellReach(&view); err != nil {
		return err
	}
	if blind == "" && !m.MAC.IsZero() {
		if err := v.tellFlows(&view, all); err != nil {
			v.s.log.Debug("ask what a device did", "err", err)
			view.Blind = err.Error()
		}
	}
	return v.showAs(status, "device", view)
}

func (v *visit) addressRows(m *machine) (list []addressRow) {
	for _, a := range m.addresses() {
		row := addressRow{Address: a.String()}
		if m.File != nil && m.File.Address == a {
			row.Fixed, row.Given = !m.File.Given, m.File.Given
		}
		if m.Seen != nil {
			if i := slices.IndexFunc(m.Seen.Addresses, func(u inventory.Used) bool { return u.Address == a }); i >= 0 {
				row.Last = v.when(m.Seen.Addresses[i].Last)
			}
		}
		if i := slices.IndexFunc(m.Leases, func(l svcconf.Lease) bool { return l.Address == a }); i >= 0 {
			row.Granted, row.Expires = v.when(m.Leases[i].Granted), v.when(m.Leases[i].Expires)
		}
		list = append(list, row)
	}
	return list
}

// tellPast says which addresses a machine had. A page is of use without that.
func (v *visit) tellPast(view *deviceView) {
	if view.MAC.IsZero() {
		return
	}
	h, err := v.box().LeaseHistory(v.Context(), view.MAC.String())
	if err != nil {
		v.s.log.Debug("ask for the history of leases", "err", err)
		view.NoPast = err.Error()
		return
	}
	for _, l := range h.Leases {
		row := pastRow{
			Address: l.Address.String(), Zone: l.Zone, Hostname: l.Hostname,
			Given: v.when(l.First), Ends: v.when(l.Ends), Over: !l.Ends.After(time.Now()),
		}
		if l.Renewed.After(l.First) {
			row.Renewed = v.when(l.Renewed)
		}
		view.Past = append(view.Past, row)
	}
}

// tellReach says whom a machine may reach, and who may reach it: a device of the file by its
// name, another one by the address that it has.
func (v *visit) tellReach(view *deviceView) error {
	of := ""
	if view.File != nil {
		of = view.File.Name
	} else if i := slices.IndexFunc(view.addresses(), netip.Addr.Is4); i >= 0 {
		of = view.addresses()[i].String()
	}
	if of == "" {
		view.NoReach = "It is not known which address it has: that of a device which is not in the file decides what it may."
		return nil
	}
	c, err := v.box().Contacts(v.Context(), of)
	if errors.Is(err, api.ErrUnknown) {
		view.NoReach = fmt.Sprintf("It is not known what %s may: %v.", of, err)
		return nil
	}
	if err != nil {
		return err
	}
	view.To = contacts{Caption: "What it may open connections to", Way: "To"}
	for i := range c.To {
		view.To.Rows = append(view.To.Rows, contactOf(&c.To[i], c.To[i].To))
	}
	view.From = contacts{Caption: "Who may open connections to it", Way: "From"}
	for i := range c.From {
		view.From.Rows = append(view.From.Rows, contactOf(&c.From[i], c.From[i].From))
	}
	return nil
}

func contactOf(d *api.Verdict, other string) contact {
	ask := url.Values{"from": {d.From}, "to": {d.To}, "protocol": {"any"}}
	return contact{other, strings.Join(d.Services, ", "), d.Rule, d.Why, !d.Allow, "/why?" + ask.Encode()}
}

// tellFlows says what flowd knows of what a machine did.
func (v *visit) tellFlows(view *deviceView, all []machine) error {
	seen, err := askFlowd[[]inventory.Device](v, "/v1/devices/seen", url.Values{"device": {view.MAC.String()}})
	if err != nil {
		return err
	}
	if len(seen) > 0 {
		for _, t := range seen[0].Talks {
			row := talkRow{Peer: t.Peer, Zone: t.Zone, Service: t.Service, Connections: t.Connections, Bytes: bytesText(t.Bytes), Last: v.when(t.Last)}
			if t.App != "" {
				row.Service = t.App + " (" + t.Service + ")"
			}
			if i := slices.IndexFunc(all, func(m machine) bool { return m.File != nil && m.File.Name == t.Peer }); i >= 0 {
				row.PeerPath = all[i].Path()
			}
			view.Talks = append(view.Talks, row)
		}
	}
	q := url.Values{
		"from": {view.ID()}, "since": {time.Now().Add(-lookBack).UTC().Format(time.RFC3339)},
		"per": {string(record.PerDestination)}, "by": {string(record.ByConnections)}, "limit": {"40"},
	}
	top, err := askFlowd[[]record.Sum](v, "/v1/flows/top", q)
	if err != nil {
		return err
	}
	for _, s := range top {
		if isDomain(s.Key) {
			view.Names = append(view.Names, nameRow{s.Key, s.Connections, bytesText(s.Out.Bytes + s.In.Bytes)})
		}
	}
	q.Set("by", string(record.ByRefused))
	q.Set("verdict", record.Refused.String())
	q.Set("limit", "10")
	if top, err = askFlowd[[]record.Sum](v, "/v1/flows/top", q); err != nil {
		return err
	}
	for _, s := range top {
		view.Refused = append(view.Refused, refusedRow{s.Key, s.Zone, s.Refused})
	}
	events, err := askFlowd[[]record.Event](v, "/v1/events", url.Values{"device": {view.MAC.String()}, "limit": {"10"}})
	for i := range events {
		view.Events = append(view.Events, v.eventRow(&events[i]))
	}
	return err
}

// isDomain reports whether a destination is called by a name of the DNS: others are the
// names of devices, which have no dot, or addresses.
func isDomain(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil && strings.Contains(s, ".")
}

// isolate keeps a machine from everybody.
func (v *visit) isolate() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	m, _, _, err := v.machine()
	if err != nil {
		return err
	}
	form := isolateForm{Why: strings.TrimSpace(f.Get("why")), For: f.Get("for")}
	in := api.Isolate{Machine: m.ID(), Via: api.ViaUI, Why: form.Why}
	switch {
	case !slices.ContainsFunc(isolatePeriods, func(p period) bool { return p.Value == form.For }):
		return v.showDevice(http.StatusUnprocessableEntity, deviceView{Error: "Choose how long it is isolated.", Isolate: form})
	case len(form.Why) > maxWhy:
		return v.showDevice(http.StatusUnprocessableEntity, deviceView{Error: fmt.Sprintf("The reason is longer than %d bytes.", maxWhy), Isolate: form})
	case form.For != "":
		d, err := time.ParseDuration(form.For)
		if err != nil {
			return err
		}
		in.Until = time.Now().Add(d)
	}
	if _, err := v.box().Isolate(v.Context(), in); err != nil {
		return v.notDone(err, deviceView{Isolate: form})
	}
	return v.seeDone(m.Path(), "isolate")
}

// maxWhy is the longest reason, in bytes.
const maxWhy = 500

// release ends an isolation.
func (v *visit) release() error {
	m, _, _, err := v.machine()
	if err != nil {
		return err
	}
	in := api.Release{Machine: m.ID(), Via: api.ViaUI}
	if m.Isolated != nil {
		in.Machine = m.Isolated.Machine
	}
	if _, err := v.box().Release(v.Context(), in); err != nil {
		return v.notDone(err, deviceView{})
	}
	if m.File == nil && m.Seen == nil && len(m.Leases) == 0 {
		return v.seeDone("/devices", "release") // nothing else is known of it
	}
	return v.seeDone(m.Path(), "release")
}

// notDone says on the page why something about a machine was not done, if that is for who
// asked to mend.
func (v *visit) notDone(err error, view deviceView) error {
	status, _ := statusOfPage(err)
	switch status {
	case http.StatusConflict, http.StatusUnprocessableEntity, http.StatusNotFound:
		view.Error = err.Error()
		return v.showDevice(status, view)
	}
	return err
}

// Entry is the form with what the file says of a machine, or for a new one with what seems
// best. It is "" if there is none: nobody can write down who has no MAC.
func (m *machine) Entry() string {
	switch {
	case m.File != nil:
		return "/names/" + m.File.Name
	case m.MAC.IsZero():
		return ""
	}
	form := url.Values{"mac": {m.MAC.String()}, "zone": {m.Zone()}}
	if names := m.calls(); len(names) > 0 {
		form.Set("name", asName(names[0]))
	}
	return "/new/name?" + form.Encode()
}

// asName makes a name for the file of what a machine calls itself.
func asName(s string) string {
	s = strings.Map(func(r rune) rune {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return '-'
		}
		return r
	}, strings.ToLower(s))
	s = strings.TrimLeft(s, "-0123456789")
	return strings.TrimRight(s[:min(len(s), 32)], "-")
}

// eventRows is how many events one page lists.
const eventRows = 100

// eventsView is what there was to tell.
type eventsView struct {
	Kinds        []eventKind
	Kind         record.Kind
	Zones        []string
	Zone, Device string
	Rows         []eventRow
	Filtered     bool
	Older        string
}

// eventKind is a kind of event, in words.
type eventKind struct {
	Kind record.Kind
	Text string
}

var eventKinds = []eventKind{
	{record.NewDevice, "New device"}, {record.ForeignDHCP, "Foreign DHCP server"}, {record.CriticalHit, "Critical device"},
	{record.PortScan, "Scan"}, {record.NewBehaviour, "New behaviour"}, {record.Isolated, "Isolation"}, {record.Change, "Change"}, {record.Trouble, "Trouble"},
}

type eventRow struct {
	Time     when
	Kind     string
	Zone     string
	Who      string
	WhoPath  string // "": it is no device
	Text     string
	Peer     string
	PeerPath string
}

func (v *visit) eventRow(e *record.Event) eventRow {
	row := eventRow{Time: v.when(e.Time), Kind: string(e.Kind), Zone: e.Side.Zone, Text: e.Text}
	if i := slices.IndexFunc(eventKinds, func(k eventKind) bool { return k.Kind == e.Kind }); i >= 0 {
		row.Kind = eventKinds[i].Text
	}
	row.Who, row.WhoPath = sideLink(e.Side)
	row.Peer, row.PeerPath = sideLink(e.Peer)
	return row
}

// sideLink is how one side of an event is called, and its page.
func sideLink(s record.Side) (name, path string) {
	switch {
	case s.Device != "":
		return s.Device, "/devices/" + url.PathEscape(s.Device)
	case !s.MAC.IsZero():
		return s.MAC.String(), "/devices/" + s.MAC.String()
	case s.Addr.IsValid():
		return s.Addr.String(), ""
	}
	return "", ""
}

func (v *visit) eventsPage() error {
	q := v.URL.Query()
	view := eventsView{Kinds: eventKinds, Kind: record.Kind(q.Get("kind")), Zone: q.Get("zone"), Device: strings.TrimSpace(q.Get("device"))}
	if !slices.Contains(record.Kinds, view.Kind) {
		view.Kind = ""
	}
	ask := url.Values{}
	for name, value := range map[string]string{"kind": string(view.Kind), "zone": view.Zone, "device": view.Device} {
		if value != "" {
			ask.Set(name, value)
			view.Filtered = true
		}
	}
	zones, err := v.box().Zones(v.Context())
	if err != nil {
		return err
	}
	for _, z := range zones {
		view.Zones = append(view.Zones, z.Name)
	}
	list, err := askFlowd[[]record.Event](v, "/v1/events", ask)
	if err != nil {
		return err
	}
	page := pageIn(q)
	rows, more := onPage(list, page, eventRows)
	for i := range rows {
		view.Rows = append(view.Rows, v.eventRow(&rows[i]))
	}
	if more {
		ask.Set("page", strconv.Itoa(page+1))
		view.Older = "/events?" + ask.Encode()
	}
	return v.show("events", view)
}
