//go:build linux

package webui

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/suggest"
	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// flowPages are about who spoke with whom.
var flowPages = []page{
	{"GET /flows", access.Read, "Flows", true, (*visit).flowsPage},
	{"GET /flows/draft", access.Plan, "", false, (*visit).draftRule},
}

// flowRows is how many flows one page lists, and maxFlowPage the last page: flowd looks no
// further back at once.
const (
	flowRows    = 50
	maxFlowPage = flows.MaxLimit/flowRows - 1
)

// flowFilters are the filters of flows, as they are typed: those of "bulkhead flows".
type flowFilters struct {
	Device, From, To, Zone, Rule, Reason, Verdict, Port, Name, Since, Until string
}

func readFlowFilters(q url.Values) flowFilters {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return flowFilters{
		get("device"), get("from"), get("to"), get("zone"), get("rule"), get("reason"), get("verdict"),
		get("port"), get("name"), get("since"), get("until"),
	}
}

// Values are the filters as an address of a page has them.
func (f flowFilters) Values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"device": f.Device, "from": f.From, "to": f.To, "zone": f.Zone, "rule": f.Rule, "reason": f.Reason, "verdict": f.Verdict,
		"port": f.Port, "name": f.Name, "since": f.Since, "until": f.Until,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// parties are what flows are from and to, apart from devices.
func (v *visit) parties() ([]string, error) {
	zones, err := v.box().Zones(v.Context())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, z := range zones {
		names = append(names, z.Name)
	}
	return append(names, model.Internet, model.Box), nil
}

// More reports whether filters are set that are seldom used.
func (f flowFilters) More() bool { return f.From+f.To+f.Rule+f.Reason+f.Until != "" }

// flowQuery is what flowd is asked for.
func (v *visit) flowQuery(f flowFilters) (url.Values, error) {
	q := f.Values()
	if f.Name != "" {
		q.Set("name", strings.ToLower(strings.TrimSuffix(f.Name, ".")))
	}
	for _, name := range []string{"since", "until"} {
		if text := q.Get(name); text != "" {
			t, err := v.moment(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	if f.Port != "" {
		proto, port, ok := strings.Cut(f.Port, "/")
		if !ok {
			proto, port = "", f.Port
		}
		number, known := map[string]string{"": "", "tcp": "6", "udp": "17", "icmp": "1", "sctp": "132"}[proto]
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || !known {
			return nil, errors.New("port: one such as 443 or udp/53 is meant")
		}
		q.Set("port", port)
		if number != "" {
			q.Set("proto", number)
		}
	}
	return q, nil
}

// moment reads a time as people type it: how long ago, a day, or a time.
func (v *visit) moment(s string) (time.Time, error) {
	now := v.when(time.Now())
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, errors.New("so long ago is meant, such as 2h or 3d, or a time such as 2026-11-27 or 2026-11-27 18:30")
}

// flowsView is a list of flows, or of who did most.
type flowsView struct {
	flowFilters
	Error    string
	Views    []tab
	Zones    []string
	Filtered bool
	Rows     []flowLine
	Older    string
	Newer    string

	Top string // measure; "": the flows are listed
	By  record.Group
	Sum []sumRow
}

// flowLine is a flow, in words.
type flowLine struct {
	Time           when
	From, To       flowSide
	Name           string // DNS name
	What           string
	Lasted         string
	End            string
	Out, In        string
	Refused        bool
	Packets        uint64
	Rule, RulePath string
	Why            string // address that asks why; "": the policy had no say in it
	Draft          string // address that drafts a rule; "": there is none to draft
}

// flowSide is one side of a flow.
type flowSide struct{ Who, Path, Zone string }

func sideOf(s record.Side) flowSide {
	who, path := sideLink(s)
	if s.Device == "" && s.Addr.IsValid() {
		who = s.Addr.String()
	}
	return flowSide{or(who, s.Zone), path, s.Zone}
}

// endTexts say how a connection ended.
var endTexts = map[record.End]string{
	record.Finished: "both sides closed it", record.Reset: "one side broke it off", record.Expired: "nothing came any more",
	record.Unopened: "it was never answered", record.Continues: "it goes on", record.Lost: "its end was not seen",
}

// reasonTexts say why something was refused by no rule.
var reasonTexts = map[policy.Reason]string{
	policy.NotAllowed: "no rule allows it", policy.Spoofed: "the source is not where it says", policy.Borrowed: "the address is another device’s",
	policy.Bogon: "nobody on the internet has that address", policy.IPv6: "IPv6 is closed", policy.Elsewhere: "the box does not serve that address",
	policy.Stray: "it began nothing", policy.Isolated: "one of the two is isolated",
}

// serviceText is what a connection is about.
func serviceText(proto uint8, port uint16) string {
	if proto == 0 {
		return "–"
	}
	return model.ServiceOf(proto, port).String()
}

// lastedText is how long something took.
func lastedText(d time.Duration) string {
	switch {
	case d < time.Second:
		return "under 1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// ruleLists are the pages that list the rules of the file, by the names of these.
type ruleLists map[string]string

// ruleLists is empty where the file cannot be had: flows are worth seeing without.
func (v *visit) ruleLists() ruleLists {
	lists := ruleLists{}
	c, err := v.config()
	if err != nil || c.Config == nil {
		return lists
	}
	for _, f := range c.Forwards {
		lists[f.Name] = "/forwards"
	}
	for _, r := range slices.Concat(c.Allow, c.Block) {
		lists[r.Name] = "/rules"
	}
	return lists
}

// path is where a rule is shown; "": it is not one of the file.
func (l ruleLists) path(rule string) string {
	list, ok := l[rule]
	if !ok {
		return ""
	}
	return list + "?" + url.Values{"q": {rule}}.Encode()
}

func (v *visit) flowLine(r *record.Record, rules ruleLists) flowLine {
	row := flowLine{
		Time: v.when(r.End), From: sideOf(r.Src), To: sideOf(r.Dst), Name: r.Name, What: serviceText(r.Proto, r.Dst.Port),
		Rule: r.Rule, RulePath: rules.path(r.Rule), Refused: r.Verdict == record.Refused,
	}
	if r.App != "" {
		row.What = fmt.Sprintf("%s (%s)", r.App, row.What)
	}
	if !row.Refused {
		row.Lasted, row.End = lastedText(r.End.Sub(r.Began)), endTexts[r.Ended]
		row.Out, row.In = bytesText(r.Out.Bytes), bytesText(r.In.Bytes)
		return row
	}
	row.Packets = r.Out.Packets
	if r.Rule == "" {
		row.End = or(reasonTexts[policy.Reason(r.Reason)], r.Reason)
	}
	if r.Rule != "" || slices.Contains(judged, policy.Reason(r.Reason)) {
		row.Why = whyPath(r)
	}
	if policy.Reason(r.Reason) == policy.NotAllowed && v.may(access.Plan) {
		row.Draft = draftPath(r)
	}
	return row
}

func (v *visit) flowsPage() error {
	q := v.URL.Query()
	view := flowsView{flowFilters: readFlowFilters(q), Top: q.Get("top"), By: record.Group(q.Get("by"))}
	view.Filtered = len(view.Values()) > 0
	view.Views = view.tabs(record.Measure(view.Top), view.By)
	var err error
	if view.Zones, err = v.parties(); err != nil {
		return err
	}
	ask, err := v.flowQuery(view.flowFilters)
	if err == nil {
		if view.Top != "" {
			err = v.tellTop(&view, ask)
		} else {
			err = v.tellRecords(&view, ask, min(pageIn(q), maxFlowPage))
		}
	}
	switch {
	case errors.Is(err, errAway):
		return err
	case err != nil:
		view.Error = upperFirst(strings.TrimPrefix(err.Error(), errForm.Error()+": ")) + "."
		return v.showAs(http.StatusUnprocessableEntity, "flows", view)
	}
	return v.show("flows", view)
}

func (v *visit) tellRecords(view *flowsView, ask url.Values, page int) error {
	ask.Set("limit", strconv.Itoa(page*flowRows+1))
	list, err := askFlowd[[]record.Record](v, "/v1/flows", ask)
	if err != nil {
		return err
	}
	rules := v.ruleLists()
	part, more := onPage(list, page, flowRows)
	for i := range part {
		view.Rows = append(view.Rows, v.flowLine(&part[i], rules))
	}
	at := func(page int) string {
		next := view.Values()
		if page > 1 {
			next.Set("page", strconv.Itoa(page))
		}
		return "/flows?" + next.Encode()
	}
	if more && page < maxFlowPage {
		view.Older = at(page + 1)
	}
	if page > 1 {
		view.Newer = at(page - 1)
	}
	return nil
}

// flowTops are the views of flows: the latest, those to come, and who did most.
var flowTops = []struct {
	top   record.Measure
	by    record.Group
	title string
}{
	{"", "", "Latest"}, {"live", "", "Live"}, {record.ByBytes, record.PerDevice, "Devices by bytes"}, {record.ByBytes, record.PerDestination, "Destinations by bytes"},
	{record.ByConnections, record.PerRule, "Rules by connections"}, {record.ByRefused, record.PerDevice, "Most refused"},
}

// tabs are the views, with the same filters. One of them is shown.
func (f flowFilters) tabs(top record.Measure, by record.Group) (list []tab) {
	for _, t := range flowTops {
		path, q := "/flows", f.Values()
		switch t.top {
		case "":
		case "live":
			path = "/flows/live"
		default:
			q.Set("top", string(t.top))
			q.Set("by", string(t.by))
		}
		list = append(list, tab{Title: t.title, Path: path + "?" + q.Encode(), Here: top == t.top && by == t.by})
	}
	return list
}

// sumRow is what one did in all.
type sumRow struct {
	Key, Path, Zone, Out, In string
	Connections, Refused     uint64
}

func (v *visit) tellTop(view *flowsView, ask url.Values) error {
	ask.Set("by", view.Top)
	ask.Set("per", cmp.Or(string(view.By), string(record.PerDevice)))
	ask.Set("limit", strconv.Itoa(flowRows))
	list, err := askFlowd[[]record.Sum](v, "/v1/flows/top", ask)
	if err != nil {
		return err
	}
	for _, s := range list {
		row := sumRow{Key: or(s.Key, "others"), Zone: s.Zone, Out: bytesText(s.Out.Bytes), In: bytesText(s.In.Bytes), Connections: s.Connections, Refused: s.Refused}
		more := view.Values()
		switch {
		case s.Key == "":
		case view.By == record.PerRule:
			more.Set("rule", s.Key)
		case view.By == record.PerDestination && isDomain(s.Key):
			more.Set("name", s.Key)
		case view.By == record.PerDestination:
			more.Set("to", s.Key)
		default:
			more.Set("from", s.Key)
		}
		if s.Key != "" {
			row.Path = "/flows?" + more.Encode()
		}
		view.Sum = append(view.Sum, row)
	}
	return nil
}

// judged are the reasons that follow from who wants what of whom. The others are about
// packets that would have been refused whatever the rules say.
var judged = []policy.Reason{policy.NotAllowed, policy.Isolated}

// whyPath is where it is asked why something was refused; "": too little is known of it.
func whyPath(r *record.Record) string {
	from, to := whyWord(r.Src), whyWord(r.Dst)
	if from == "" || to == "" || r.Proto == 0 {
		return ""
	}
	return "/why?" + url.Values{"from": {from}, "to": {to}, "protocol": {serviceText(r.Proto, r.Dst.Port)}}.Encode()
}

// whyWord is what a side is called in a question, as exactly as is known.
func whyWord(s record.Side) string {
	switch {
	case s.Device != "":
		return s.Device
	case s.Addr.IsValid() && s.Zone != model.Box:
		return s.Addr.String()
	}
	return s.Zone
}

// draftPath is where a rule is drafted that would let pass what was refused.
func draftPath(r *record.Record) string {
	q := url.Values{"proto": {strconv.Itoa(int(r.Proto))}, "port": {strconv.Itoa(int(r.Dst.Port))}}
	side := func(name string, s record.Side) {
		q.Set(name+"-zone", s.Zone)
		if s.Device != "" {
			q.Set(name+"-device", s.Device)
		}
		if s.Addr.IsValid() && s.Zone != model.Internet {
			q.Set(name+"-address", s.Addr.String())
		}
	}
	side("from", r.Src)
	side("to", r.Dst)
	if r.Name != "" {
		q.Set("name", r.Name)
	}
	return "/flows/draft?" + q.Encode()
}

// draftRule fills the form for a rule with the smallest one that lets pass what was refused.
// Only people know why it should.
func (v *visit) draftRule() error {
	q := v.URL.Query()
	proto, err1 := strconv.ParseUint(q.Get("proto"), 10, 8)
	port, err2 := strconv.ParseUint(q.Get("port"), 10, 16)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: a protocol and a port are meant", errForm)
	}
	side := func(name string) suggest.Party {
		addr, _ := netip.ParseAddr(q.Get(name + "-address")) // where there is none, the zone counts
		return suggest.Party{Zone: q.Get(name + "-zone"), Device: q.Get(name + "-device"), Addr: addr}
	}
	c, err := v.known()
	if err != nil {
		return err
	}
	seen := suggest.Seen{From: side("from"), To: side("to"), Proto: uint8(proto), Port: uint16(port), Reason: string(policy.NotAllowed), Count: 1, Name: q.Get("name")}
	found := suggest.Allows(c.Config, []suggest.Seen{seen})
	if len(found.Proposals) == 0 {
		why := "nothing would let it pass"
		if len(found.LeftOut) > 0 {
			why = found.LeftOut[0].Why
		}
		return v.showAs(http.StatusUnprocessableEntity, "refusal", refusal{Status: http.StatusUnprocessableEntity, Head: "There is no rule to draft", Why: []string{upperFirst(why) + "."}})
	}
	return v.see(newRulePath(&found.Proposals[0]))
}

// newRulePath is the form for a rule, with a proposal filled in.
func newRulePath(p *suggest.Proposal) string {
	return "/new/rule?" + url.Values{
		"list": {"allow"}, "name": {p.Name}, "from": {strings.Join(p.From, ", ")}, "to": {strings.Join(p.To, ", ")}, "protocols": {strings.Join(p.Protocols, ", ")},
	}.Encode()
}
