package console

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	update "bulkhead/services/update/api"
)

// size is a terminal's, in characters.
type size struct{ cols, rows int }

// view returns what the session shows on a terminal of the given size: lines of
// printable ASCII that fit it. The cursor belongs behind the last one.
func (m *model) view(w *world, s size) []string {
	// The last column stays free: some terminals go to the next line behind it.
	width := max(s.cols-1, 20)
	body, foot := m.content(w, width)
	foot = append(foot, cut(printable(m.hint()), width), cut("> "+m.line.String(), width))
	room := max(s.rows-2-len(foot), 1)

	m.more = false
	if m.page == state {
		if body = m.portion(body, room); m.more {
			foot[len(foot)-2] = "Enter: more    Esc: back"
		}
	} else {
		body = fit(body, room)
	}
	lines := append([]string{heading(w, width), ""}, body...)
	return append(lines, foot...)
}

// portion returns the part of the state page that is shown.
func (m *model) portion(body []string, room int) []string {
	step := max(room-1, 1) // one for the empty line below
	m.top = min(m.top, (len(body)-1)/step)
	body = body[m.top*step:]
	m.more = len(body) > step
	return append(slices.Clip(body[:min(step, len(body))]), "")
}

// fit makes a page at most room lines high: empty lines go first, the last ones next.
func fit(body []string, room int) []string {
	for i := len(body) - 1; i >= 0 && len(body) > room; i-- {
		if body[i] == "" {
			body = append(body[:i:i], body[i+1:]...)
		}
	}
	if len(body) > room {
		body = append(body[:room-1:room-1], " ...")
	}
	return body
}

// heading is the first line of every page.
func heading(w *world, width int) string {
	left, right := "", "Bulkhead "+printable(w.version)+" "
	if w.status.ok() {
		left = " " + printable(w.status.value.Name)
	}
	return cut(pad(left, width-len(right))+right, width)
}

// hint is the line above the prompt.
func (m *model) hint() string {
	if m.note != "" {
		return m.note
	}
	switch m.page {
	case home:
		return "Type a number and press Enter. Enter alone draws the screen again."
	case confirm:
		return fmt.Sprintf("Type %s and press Enter to do it. Enter alone: go back.", quoted(m.word))
	case working:
		return "Please wait. Esc: go back, it goes on."
	}
	return "Enter: back"
}

// quoted sets a word off. Nothing the console writes may be a word that it takes.
func quoted(word string) string { return `"` + word + `"` }

// content is the page without its heading: what may be cut, and what may not.
func (m *model) content(w *world, width int) (body, foot []string) {
	t := &text{width: width}
	switch m.page {
	case home:
		homePage(t, w)
		return t.lines, menu(width)
	case state:
		statePage(t, w)
	default:
		if m.task != nil {
			t.para(m.task.title)
			t.gap()
		}
		for _, words := range m.body {
			t.para(words)
			t.gap()
		}
	}
	return t.lines, nil
}

func menu(width int) []string {
	items := []string{" 1  state of the box", " 2  undo the last change", " 3  boot the other root", " 4  new claim code", " 5  factory reset", " 6  restart"}
	const column = 26
	columns := min(max(width/column, 1), 3)
	foot := []string{""}
	for i := range len(items) / columns {
		row := ""
		for c := range columns {
			row += pad(items[i+c*len(items)/columns], column)
		}
		foot = append(foot, cut(strings.TrimRight(row, " "), width))
	}
	return append(foot, "")
}

// homePage is the first screen: what somebody needs who stands before the box.
func homePage(t *text, w *world) {
	if w.claim.ok() {
		claiming(t, w)
	}
	mode(t, w)
	manage(t, w)
	switch {
	case !w.claim.ok():
		t.field("Certificate", missing("webuid", w.claim.asked, w.claim.err))
	default:
		t.field("Certificate", w.claim.value.Fingerprint.String())
	}
	if w.status.ok() {
		uplink(t, w.status.value)
	}
}

// mode says what the box does as a whole.
func mode(t *text, w *world) {
	switch s := w.status.value; {
	case !w.status.ok():
		t.field("State", missing("netcfgd", w.status.asked, w.status.err))
	case s.Mode == api.Running:
		t.field("State", "running"+troubles(s))
		t.field("", change(s))
	case s.Mode == api.Closed:
		t.field("State", "CLOSED: nothing is forwarded"+troubles(s))
		t.field("", s.Reason)
	default:
		t.field("State", string(s.Mode)+troubles(s))
		t.field("", s.Reason)
	}
	if w.pending() {
		t.field("On trial", onTrial(w.status.value))
	}
	updating(t, w)
}

// updating says what is unusual about the box's systems.
func updating(t *text, w *world) {
	switch s := w.systems.value; {
	case !w.systems.asked:
	case w.systems.err != nil:
		t.field("Update", missing("updated", true, w.systems.err))
	case s.Trial:
		t.field("Update", orNone(s.Version)+" is on trial: it stays if the box proves healthy")
		if len(s.Waiting) > 0 {
			t.field("", "waiting for "+strings.Join(s.Waiting, ", "))
		}
	case s.Staging != nil:
		t.field("Update", "receiving "+s.Staging.Version)
	case s.Last != nil && s.Last.Outcome == update.Undone:
		t.field("Update", outcome(s.Last, w))
	}
}

// troubles points to the state page if there is something to see.
func troubles(s *api.Status) string {
	switch n := len(s.Troubles) + len(s.Missing); n {
	case 0:
		return ""
	case 1:
		return ", 1 trouble: see 1"
	default:
		return fmt.Sprintf(", %d troubles: see 1", n)
	}
}

// manage says where the box is managed.
func manage(t *text, w *world) {
	const most = 3
	name := "Management"
	for i, z := range admins(w) {
		if i == most {
			t.field(name, "...")
			return
		}
		value := fmt.Sprintf("https://%s/ in zone %s", z.Gateway, z.Name)
		if z.Link == "" {
			value += ", which has no link"
		}
		t.field(name, value)
		name = ""
	}
	if name == "" {
		return
	}
	if list := w.claim.value.Addresses; len(list) > 0 {
		t.field(name, fmt.Sprintf("https://%s/", list[0]))
	} else if w.zones.ok() {
		t.field(name, "no address")
	}
}

func admins(w *world) []api.Zone {
	var list []api.Zone
	for _, z := range w.zones.value {
		if w.zones.err == nil && z.Admin {
			list = append(list, z)
		}
	}
	return list
}

// claiming shows the one-time code and what to do with it. It comes first: where the
// screen is small, the rest may be cut.
func claiming(t *text, w *world) {
	c := w.claim.value
	switch {
	case c.Code == "" && c.Claimed:
		return
	case c.Code == "":
		t.para("This box belongs to nobody yet, and no code is set: 4 makes one.")
		t.gap()
		return
	}
	whose := "This box belongs to nobody yet."
	if c.Claimed {
		whose = "A code is set: who types it gets full rights."
	}
	where, address := entrance(w)
	if address == "" {
		t.para(whose + " It has no address for now. Its code:")
	} else {
		t.para(whose + " On a workstation " + where + ", type")
		t.gap()
		t.verbatim("bulkhead claim " + address)
		t.gap()
		t.para("and give it this code, which works once:")
	}
	t.gap()
	t.verbatim(c.Code)
	t.gap()
}

// entrance says from where the box can be claimed, and at which address; "" if from
// nowhere.
func entrance(w *world) (where, address string) {
	for _, z := range admins(w) {
		switch {
		case z.Link == "":
		case w.status.ok() && w.status.value.Mode == api.Setup:
			return "at port " + z.Port, z.Gateway.String() // nobody has chosen zones yet
		default:
			return "in zone " + z.Name, z.Gateway.String()
		}
	}
	if list := w.claim.value.Addresses; len(list) > 0 {
		return "in a management zone", list[0].String()
	}
	return "", ""
}

// statePage is everything there is to say.
func statePage(t *text, w *world) {
	mode(t, w)
	if s := w.status.value; w.status.ok() {
		uplink(t, s)
		for i, what := range s.Missing {
			t.field(once(i, "Missing"), what)
		}
		for i, what := range s.Troubles {
			t.field(once(i, "Troubles"), what)
		}
		for i, p := range s.Warnings {
			t.field(once(i, "Warnings"), p.Error())
		}
		drift(t, s)
	}
	t.gap()
	zonesTable(t, w)
	t.gap()
	rootsPart(t, w)
	t.gap()
	servicesPart(t, w)
}

// lately is how long the console tells of drift.
const lately = 24 * time.Hour

// drift says what somebody has changed behind Bulkhead's back, and when.
func drift(t *text, s *api.Status) {
	if s.Repaired == nil || s.Now.Sub(s.Repaired.Time) > lately {
		return
	}
	t.field("Put right", "at "+clock(s.Repaired.Time, s)+":")
	for _, what := range s.Repaired.Found {
		t.field("", what)
	}
}

func zonesTable(t *text, w *world) {
	if !w.zones.ok() {
		t.field("Zones", missing("netcfgd", w.zones.asked, w.zones.err))
		return
	}
	if len(w.zones.value) == 0 {
		t.field("Zones", "none")
		return
	}
	const form = " %-20.20s %-19.19s %-12.12s %-9.9s %s"
	t.lines = append(t.lines, cut(fmt.Sprintf(form, "ZONE", "ADDRESS", "LINK", "SERVES", "LEASES"), t.width))
	for _, z := range w.zones.value {
		link := z.Link
		if link == "" {
			link = "none"
		}
		var serves []string
		if z.DHCP {
			serves = append(serves, "dhcp")
		}
		if z.DNS {
			serves = append(serves, "dns")
		}
		address := netip.PrefixFrom(z.Gateway, z.Subnet.Bits()).String()
		row := fmt.Sprintf(form, z.Name, address, link, strings.Join(serves, " "), strconv.Itoa(z.Leases))
		t.lines = append(t.lines, cut(printable(row), t.width))
	}
}

func rootsPart(t *text, w *world) {
	if !w.systems.ok() {
		t.field("Roots", missing("updated", w.systems.asked, w.systems.err))
		return
	}
	s := w.systems.value
	t.field("Roots", this(s)+", running")
	t.field("", other(s))
	if s.Last != nil {
		t.field("Last update", outcome(s.Last, w))
	} else {
		t.field("Last update", "none")
	}
}

// outcome says how an update ended.
func outcome(o *update.Outcome, w *world) string {
	words := fmt.Sprintf("%s was %s at %s", orNone(o.Version), o.Outcome, when(o.Time, w))
	if o.Why != "" {
		words += ": " + o.Why
	}
	return words
}

func servicesPart(t *text, w *world) {
	if !w.services.ok() {
		t.field("Services", missing("gokrazy", w.services.asked, w.services.err))
		return
	}
	var off, on []string
	for _, s := range w.services.value {
		if s.Stopped {
			off = append(off, path.Base(s.Path))
		} else {
			on = append(on, fmt.Sprintf("%s since %s", path.Base(s.Path), when(s.StartTime, w)))
		}
	}
	for i, s := range on {
		t.field(once(i, "Services"), s)
	}
	if len(off) > 0 {
		t.field("Off", strings.Join(off, " "))
	}
}

func once(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

// this and other say what is in the box's two roots.
func this(s update.Status) string { return fmt.Sprintf("%s: %s", s.Slot, orNone(s.Version)) }

func other(s update.Status) string {
	name := map[string]string{"a": "b", "b": "a"}[s.Slot]
	state := s.Other.State
	if words, ok := map[string]string{
		"disabled": "nothing that could be booted", "armed": "tried at the next start", "failed": "failed when it was tried",
	}[state]; ok {
		state = words
	}
	if s.Other.Version == "" {
		return fmt.Sprintf("%s: %s", name, state)
	}
	return fmt.Sprintf("%s: %s, %s", name, s.Other.Version, state)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// change says which configuration is in force.
func change(s *api.Status) string {
	c := s.Confirmed
	if c == nil {
		return "no configuration"
	}
	words := fmt.Sprintf("configuration %d of %s", c.Number, clock(c.Time, s))
	if c.Author != "" {
		words += " by " + c.Author
	}
	if c.Why != "" {
		words += ": " + c.Why
	}
	return words
}

// uplink says what the box has of the internet. One that is closed asks for nothing.
func uplink(t *text, s *api.Status) {
	switch u := s.Uplink; {
	case u == nil && s.Mode != api.Running:
	case s.NoUplink:
		t.field("Uplink", "none in the configuration")
	case u == nil:
		t.field("Uplink", "has no address")
	case !u.Gateway.IsValid():
		t.field("Uplink", fmt.Sprintf("%s on %s", u.Address, u.Link))
	default:
		t.field("Uplink", fmt.Sprintf("%s on %s, gateway %s", u.Address, u.Link, u.Gateway))
	}
}

// missing says that a daemon has not told what belongs here.
func missing(daemon string, asked bool, err error) string {
	if !asked {
		return "asking " + daemon
	}
	return silence(daemon, err)
}

// when is a time as it is where the box stands.
func when(t time.Time, w *world) string { return clock(t, w.status.value) }

func clock(t time.Time, s *api.Status) string {
	if t.IsZero() {
		return "an unknown time"
	}
	loc := time.UTC
	if s != nil {
		if l, err := time.LoadLocation(s.Timezone); err == nil {
			loc = l
		}
	}
	return t.In(loc).Format("2006-01-02 15:04 MST")
}
