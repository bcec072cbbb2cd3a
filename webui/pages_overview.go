//go:build linux

package webui

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/services/auth/access"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

// boxPages are about the network.
var boxPages = []page{
	{"GET /{$}", access.Read, "Overview", true, (*visit).overviewPage},
}

// overviewView is how the box is.
type overviewView struct {
	Sentence string
	Setup    bool // there is no configuration yet, and the visitor may make one
	Warnings []warning
	Tree     *link
	Zones    []throughput
	Hours    int
	Blind    string // why it is not known what the zones do; "": it is
}

// warning is something that is not as it should be, and where to go about it.
type warning struct{ Text, Path, To string }

func (v *visit) overviewPage() error {
	st, err := v.box().Status(v.Context())
	if err != nil {
		return err
	}
	v.status = st
	view := overviewView{Setup: st.Mode == api.Setup && v.may(access.Apply), Warnings: warnings(st), Hours: inventory.Hours}
	seen, err := askFlowd[[]inventory.Device](v, "/v1/devices/seen", nil)
	if err != nil {
		view.Blind = err.Error()
	}
	zones, err := v.box().Zones(v.Context())
	if err != nil && st.Mode == api.Running {
		return err
	}
	view.Zones = throughputs(zones, seen, time.Now())
	news := 0
	for i := range seen {
		if !seen[i].Known && st.Now.Sub(seen[i].First) < newDevice {
			news++
		}
	}
	sums, refused, err := v.refusedBetween(url.Values{})
	for _, n := range sums {
		refused += n
	}
	view.Tree = v.dependencies(st)
	view.Sentence = sentence(st, view.Tree, news, refused, err == nil)
	return v.show("overview", view)
}

// newDevice is for how long a device is new on the first page.
const newDevice = 24 * time.Hour

// sentence is the state of all in one line.
func sentence(st *api.Status, way *link, devices int, refused uint64, counted bool) string {
	switch st.Mode {
	case api.Running:
	case api.Setup:
		return "There is no configuration yet, and nothing is forwarded."
	default:
		return "The box is closed: nothing is forwarded, and only admin zones reach it."
	}
	words := []string{"All zones are up."}
	if len(st.Missing)+len(st.Troubles) > 0 || !st.Applied {
		words[0] = "Not everything is up."
	}
	switch bad := way.broken(); {
	case st.NoUplink:
		words = append(words, "There is no uplink.")
	case bad != nil:
		words = append(words, "The way to the internet is not in order: "+bad.Name+".")
	case way.unknown() != nil:
		words = append(words, "The way to the internet is in order as far as is known.")
	case way != nil && st.Uplink != nil && !st.Uplink.Since.IsZero():
		words = append(words, "Internet since "+spanText(st.Now.Sub(st.Uplink.Since))+".")
	case way != nil:
		words = append(words, "The way to the internet is in order.")
	}
	if counted {
		words = append(words, fmt.Sprintf("%s since yesterday, %s in the last hour.", counting(uint64(devices), "new device"), counting(refused, "refusal")))
	}
	return strings.Join(words, " ")
}

// counting is a number of things.
func counting(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// warnings are what the status says is wrong.
func warnings(st *api.Status) (list []warning) {
	say := func(path, to, format string, args ...any) {
		list = append(list, warning{fmt.Sprintf(format, args...), path, to})
	}
	if st.Reason != "" && st.Mode != api.Setup {
		say("/history", "History", "The box is closed: %s.", st.Reason)
	}
	for _, s := range st.Missing {
		say("/system", "System", "Missing: %s.", s)
	}
	for _, s := range st.Troubles {
		say("/system", "System", "%s. It is tried again.", upperFirst(s))
	}
	for _, s := range st.Damage {
		say("/history", "History", "Damage: %s.", s)
	}
	if len(st.Untaken) > 0 {
		say("/system", "System", "These services have not taken their configuration, and perhaps do not run: %s.", strings.Join(st.Untaken, ", "))
	}
	if len(st.Overdue) > 0 {
		say("/exposure", "Exposure", "These secrets have had their value for more than a year: %s.", strings.Join(st.Overdue, ", "))
	}
	if st.Push != nil && st.Push.Error != "" {
		say("/history", "History", "The history cannot be taken to %s: %s.", st.Push.To, st.Push.Error)
	}
	if len(st.Isolated) > 0 {
		say("/devices?show=isolated", "Devices", "Isolated: %s.", strings.Join(st.Isolated, ", "))
	}
	for _, w := range st.Warnings {
		say("/edit", "The file", "%s", w.Error())
	}
	if st.Repaired != nil && st.Now.Sub(st.Repaired.Time) < 24*time.Hour {
		say("/system", "System", "Somebody changed the network by hand, and it was put right.")
	}
	return list
}

// link is what something on the way to the internet is like. What stands on one that is not
// well cannot be.
type link struct {
	Name, Text string
	State      string // good, bad, unknown, or waits for the one before
	Next       *link
}

// broken returns the first that is not well; nil: all are.
func (l *link) broken() *link {
	for ; l != nil; l = l.Next {
		if l.State != "good" && l.State != "unknown" {
			return l
		}
	}
	return nil
}

// unknown returns the first of which it is not known how it is; nil: there is none.
func (l *link) unknown() *link {
	for ; l != nil; l = l.Next {
		if l.State == "unknown" {
			return l
		}
	}
	return nil
}

// cableOf is what the uplink's port is like. An address says nothing about it: one that is
// configured is held without a cable, and a lease for a while.
func cableOf(ports []api.Port) *link {
	for _, p := range ports {
		switch {
		case p.Uplink && p.Carrier:
			return &link{Name: "Cable", Text: "port " + p.Name + " has a carrier", State: "good"}
		case p.Uplink:
			return &link{Name: "Cable", Text: "port " + p.Name + " has no carrier: is the cable in, and the modem on?", State: "bad"}
		}
	}
	return &link{Name: "Cable", Text: "which port is the uplink's is not known", State: "bad"}
}

// Of the connections to the internet, those are looked at that ended of late.
const (
	lateness    = 15 * time.Minute
	lateLooked  = 100
	lateEnough  = 5 // that had no answer, and none that had one, say that there is no internet
	lateNothing = "nobody’s connection has ended in the last 15 minutes"
)

// internetOf is whether the internet answers, by what devices have had from there. Nothing
// is asked of anybody out there.
func internetOf(ended []record.Record, in *time.Location) *link {
	l := &link{Name: "Internet", Text: lateNothing, State: "unknown"}
	for i := range ended {
		if r := &ended[i]; r.In.Packets > 0 {
			l.Text, l.State = "it answered a device at "+r.End.In(in).Format("15:04"), "good"
			return l
		}
	}
	if len(ended) > 0 {
		l.Text = fmt.Sprintf("no answer to the last %s", counting(uint64(len(ended)), "connection"))
	}
	if len(ended) >= lateEnough {
		l.State = "bad"
	}
	return l
}

// internet asks flowd for what internetOf looks at.
func (v *visit) internet() *link {
	ended, err := askFlowd[[]record.Record](v, "/v1/flows", url.Values{
		"to": {model.Internet}, "verdict": {record.Allowed.String()}, "limit": {strconv.Itoa(lateLooked)},
		"since": {time.Now().Add(-lateness).UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return &link{Name: "Internet", Text: "it is not known: " + err.Error(), State: "unknown"}
	}
	return internetOf(ended, v.when(time.Now()).Location())
}

// dependencies is the way from the cable to the internet; nil where there is no uplink.
func (v *visit) dependencies(st *api.Status) *link {
	if st.NoUplink || st.Mode != api.Running {
		return nil
	}
	ports, err := v.box().Ports(v.Context())
	if err != nil {
		v.s.log.Debug("ask for the ports", "err", err)
	}
	cable := cableOf(ports)
	if err != nil {
		cable.Text = "the ports are not known: " + err.Error()
	}
	address := &link{Name: "Address", Text: "the provider has given none", State: "bad"}
	gateway := &link{Name: "Gateway", Text: "none is known", State: "bad"}
	names := &link{Name: "DNS", Text: "no resolver is known", State: "bad"}
	if u := st.Uplink; u != nil {
		*address = link{Name: "Address", Text: u.Address.String(), State: "good"}
		if u.Gateway.IsValid() {
			*gateway = link{Name: "Gateway", Text: u.Gateway.String(), State: "good"}
		}
		if len(u.Resolvers) > 0 {
			*names = link{Name: "DNS", Text: joined(u.Resolvers), State: "good"}
		}
	}
	v.checkAnswers(func(good bool, what, text string) {
		if !good && strings.HasPrefix(what, "DNS") {
			names.Text, names.State = what+": "+text, "bad"
		}
	})
	internet := v.internet()
	if u := st.Uplink; u != nil && !u.Since.IsZero() && internet.State == "good" {
		internet.Text += fmt.Sprintf("; the address is held without a break for %s", spanText(st.Now.Sub(u.Since)))
	}
	cable.Next, address.Next, gateway.Next, names.Next = address, gateway, names, internet
	for l := cable; l.Next != nil; l = l.Next {
		if l.State == "bad" || l.State == "waits" {
			l.Next.State, l.Next.Text = "waits", "depends on: "+l.Name
		}
	}
	return cable
}

// throughput is how much the devices of a zone sent and received.
type throughput struct {
	Zone   string
	Line   template.HTML
	Text   string
	Values []hourly
}

type hourly struct {
	Ago   int // hours
	Bytes string
}

func throughputs(zones []api.Zone, seen []inventory.Device, now time.Time) (list []throughput) {
	for _, z := range zones {
		sums := make([]uint64, inventory.Hours)
		total := uint64(0)
		for i := range seen {
			if seen[i].Zone != z.Name {
				continue
			}
			for h, n := range seen[i].Traffic.Last(now) {
				sums[h] += n
				total += n
			}
		}
		t := throughput{Zone: z.Name, Text: bytesText(total)}
		t.Line = sparkline(fmt.Sprintf("Zone %s: %s in %d hours, %s in the last", z.Name, t.Text, inventory.Hours, bytesText(sums[len(sums)-1])), sums)
		for h, n := range sums {
			t.Values = append(t.Values, hourly{len(sums) - 1 - h, bytesText(n)})
		}
		list = append(list, t)
	}
	return list
}

// banner says on every page that a change is pending.
type banner struct {
	Author, Why string
	Left        int // seconds
	LeftText    string
	Mine        bool
}

func (v *visit) banner() *banner {
	st := v.look()
	if st == nil || st.Pending == nil {
		return nil
	}
	p := st.Pending
	b := &banner{Author: p.Author, Why: p.Why, Left: int(time.Duration(p.Left).Seconds()), LeftText: p.Left.String(), Mine: v.mine(p)}
	if b.Author == "" {
		b.Author = "somebody"
	}
	return b
}

// mine reports whether a change seems to be the visitor's. netcfgd knows.
func (v *visit) mine(p *api.Pending) bool { return p.Author == v.caller.Name && p.Via == api.ViaUI }
