//go:build linux

package webui

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
	"bulkhead/webui/report"
)

// zonePages are about what zones may reach, and why.
var zonePages = []page{
	{"GET /zones", access.Read, "Zones", true, (*visit).zonesPage},
	{"GET /zones/{from}/{to}", access.Read, "Rules", false, (*visit).cellPage},
	{"GET /zones/{from}/{to}/nft", access.Read, "Packet filter", false, (*visit).compiledPage},
	{"GET /why", access.Read, "Why?", true, (*visit).whyPage},
}

// zonesView is who may open connections to whom.
type zonesView struct {
	Parties []string
	Rows    []matrixRow
	More    uint64 // packets refused in the last hour that are in no cell: there was no room for them
	Blind   string // why it is not known what was refused; "": it is
}

type matrixRow struct {
	From  string
	Cells []matrixCell
}

// matrixCell is one pair. Text says in words what Class says in colour.
type matrixCell struct {
	Path        string // "": there is nothing to show
	Class, Text string
	Refused     uint64 // packets in the last hour
}

func (v *visit) zonesPage() error {
	m, err := v.box().Matrix(v.Context())
	if err != nil {
		return err
	}
	refused, more, err := v.refusedBetween(url.Values{})
	view := zonesView{Parties: m.Parties, More: more}
	if err != nil {
		view.Blind = err.Error()
	}
	cells := map[pairOf]*api.Cell{}
	for i := range m.Cells {
		cells[pairOf{m.Cells[i].From, m.Cells[i].To}] = &m.Cells[i]
	}
	for _, from := range m.Parties {
		row := matrixRow{From: from}
		for _, to := range m.Parties {
			cell := matrixCellOf(from, to, cells[pairOf{from, to}])
			cell.Refused = refused[pairOf{from, to}]
			row.Cells = append(row.Cells, cell)
		}
		view.Rows = append(view.Rows, row)
	}
	return v.show("zones", view)
}

// pairOf is who wants to reach whom: zones, model.Internet or model.Box.
type pairOf struct{ from, to string }

func (p pairOf) path() string { return "/zones/" + pathPart(p.from) + "/" + pathPart(p.to) }

func matrixCellOf(from, to string, c *api.Cell) matrixCell {
	cell := matrixCell{Class: "self", Text: report.CellText(from, to, c)}
	if from == to {
		return cell
	}
	cell.Path, cell.Class = pairOf{from, to}.path(), "none"
	switch {
	case c == nil:
	case c.All:
		cell.Class = "all"
	case c.Allows > 0:
		cell.Class = "some"
	}
	return cell
}

// refusedBetween asks what was refused in the last hour, in packets, and how many there was
// no room to tell the pair of: a scan of ports has one sum per port.
func (v *visit) refusedBetween(q url.Values) (sums map[pairOf]uint64, more uint64, err error) {
	q.Set("verdict", record.Refused.String())
	q.Set("since", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	q.Set("limit", strconv.Itoa(flows.MaxLimit))
	t, err := askFlowd[flows.Talks](v, "/v1/flows/talks", q)
	if err != nil {
		return nil, 0, err
	}
	sums = map[pairOf]uint64{}
	for _, s := range t.Talks {
		sums[pairOf{s.From.Zone, s.To.Zone}] += s.Sum.Refused
	}
	return sums, t.Rest.Refused, nil
}

// rulesOnPage is how many rules a page lists.
const rulesOnPage = 25

// ruleDays is how far back it is looked how often a rule was used.
const ruleDays = 30

// cellView is the rules of one cell.
type cellView struct {
	From, To string
	Query    string
	Rules    []ruleRow
	Found    int
	Next     string // address of the page that goes on; "": none
	Refused  uint64 // packets in the last hour
	Days     int
	Blind    string
	Compiled string // address of what the packet filter has
	Why      string // address of the form that asks about one connection
}

func (c cellView) title() string { return "From " + c.From + " to " + c.To }

type ruleRow struct {
	api.CellRule
	Place       string // file and line
	Connections uint64
	Refused     uint64
	Bytes       string
	Last        when // use
	Ends        when
}

func (v *visit) cellPage() error {
	from, to := v.PathValue("from"), v.PathValue("to")
	c, err := v.box().CellRules(v.Context(), from, to)
	if err != nil {
		return err
	}
	here := pairOf{from, to}.path()
	view := cellView{From: from, To: to, Query: strings.TrimSpace(v.URL.Query().Get("q")), Days: ruleDays, Compiled: here + "/nft"}
	view.Why = "/why?" + url.Values{"from": {from}, "to": {to}}.Encode()
	matching := slices.DeleteFunc(c.Rules, func(r api.CellRule) bool { return !ruleHas(&r, view.Query) })
	view.Found = len(matching)
	start, _ := strconv.Atoi(v.URL.Query().Get("after")) // 0 if it is none
	start = min(max(start, 0), len(matching))
	if end := start + rulesOnPage; end < len(matching) {
		matching = matching[:end]
		view.Next = here + "?" + url.Values{"q": {view.Query}, "after": {strconv.Itoa(end)}}.Encode()
	}
	used, err := v.usesOf(from, to)
	if err != nil {
		view.Blind = err.Error()
	}
	for _, r := range matching[start:] {
		row := ruleRow{CellRule: r, Ends: v.when(r.Until)}
		if r.Pos != nil {
			row.Place = r.Pos.String()
		}
		if s, ok := used[r.Name]; ok {
			row.Connections, row.Refused, row.Bytes = s.Connections, s.Refused, bytesText(s.Out.Bytes+s.In.Bytes)
			row.Last = v.when(s.Last)
		}
		view.Rules = append(view.Rules, row)
	}
	if sums, more, err := v.refusedBetween(url.Values{"from": {from}, "to": {to}}); err == nil {
		view.Refused = sums[pairOf{from, to}] + more
	}
	return v.show("cell", view)
}

// ruleHas reports whether a word occurs in what is shown of a rule.
func ruleHas(r *api.CellRule, word string) bool {
	if word == "" {
		return true
	}
	word = strings.ToLower(word)
	for _, s := range slices.Concat([]string{r.Name, r.Kind, r.Why, r.Owner}, r.From, r.To, r.Services) {
		if strings.Contains(strings.ToLower(s), word) {
			return true
		}
	}
	return false
}

// usesOf asks how often the rules of a cell decided, and when last. What only refuses is in no list by
// connections, so that there are two; each is of one verdict, so that flowd looks through its
// records no more often than for one list of both.
func (v *visit) usesOf(from, to string) (map[string]record.Sum, error) {
	uses := map[string]record.Sum{}
	for by, verdict := range map[record.Measure]record.Verdict{record.ByConnections: record.Allowed, record.ByRefused: record.Refused} {
		list, err := askFlowd[[]record.Sum](v, "/v1/flows/top", url.Values{
			"from": {from}, "to": {to}, "per": {string(record.PerRule)}, "by": {string(by)}, "verdict": {verdict.String()},
			"since": {time.Now().AddDate(0, 0, -ruleDays).UTC().Format(time.RFC3339)}, "limit": {strconv.Itoa(flows.MaxLimit)},
		})
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			sum := uses[s.Key]
			sum.Connections, sum.Refused = sum.Connections+s.Connections, sum.Refused+s.Refused
			sum.Out.Add(s.Out)
			sum.In.Add(s.In)
			if s.Last.After(sum.Last) {
				sum.Last = s.Last
			}
			uses[s.Key] = sum
		}
	}
	return uses, nil
}

// compiledView is what the packet filter has about a cell.
type compiledView struct {
	api.Compiled
	Back string
}

func (c compiledView) title() string { return "Packet filter: " + c.From + " to " + c.To }

func (v *visit) compiledPage() error {
	from, to := v.PathValue("from"), v.PathValue("to")
	c, err := v.box().Compiled(v.Context(), from, to)
	if err != nil {
		return err
	}
	return v.show("compiled", compiledView{*c, pairOf{from, to}.path()})
}

// whyView is a question about one connection, and the answer.
type whyView struct {
	From, To, Protocol string // as they were typed
	Error              string
	Asked              bool
	Verdicts           []verdictRow
	Flows              []flowRow
	Blind              string
}

// verdictRow is an answer, and what would have to change for the other one.
type verdictRow struct {
	api.Verdict
	Place, Change string
}

// flowRow is a connection, or a minute of refusals, that was of that kind.
type flowRow struct {
	At              when
	From, To, About string
	What            string
	Allowed         bool
}

func (v *visit) whyPage() error {
	q := v.URL.Query()
	get := func(key string) string { return strings.TrimSpace(q.Get(key)) }
	view := whyView{From: get("from"), To: get("to"), Protocol: get("protocol")}
	if view.Protocol == "" {
		return v.show("why", view)
	}
	w, err := v.box().Why(v.Context(), view.From, view.To, view.Protocol)
	if errors.Is(err, api.ErrUnknown) || errors.Is(err, api.ErrInvalid) {
		view.Error = err.Error()
		return v.showAs(http.StatusUnprocessableEntity, "why", view)
	} else if err != nil {
		return err
	}
	view.Asked = true
	for _, d := range w.Verdicts {
		row := verdictRow{Verdict: d, Change: change(&d)}
		if d.Pos != nil {
			row.Place = d.Pos.String()
		}
		view.Verdicts = append(view.Verdicts, row)
	}
	if view.Flows, err = v.flowsLike(w); err != nil {
		view.Blind = err.Error()
	}
	return v.show("why", view)
}

// change says what would have to be another way for the opposite verdict.
func change(d *api.Verdict) string {
	switch {
	case d.Allow && d.Pos == nil:
		return "It is the box's own: the zone has this service switched on."
	case d.Allow:
		return fmt.Sprintf("Without the rule %s it would be refused, unless another allows it.", d.Rule)
	case d.Rule != "":
		return fmt.Sprintf("The block %s stands above everything that allows it: it would have to go, or to be narrower.", d.Rule)
	case d.Reason == policy.NotAllowed:
		return "A rule under allow would have to name it, with a reason."
	case d.Reason == policy.Isolated:
		return "The device would have to be released."
	case d.Reason == policy.IPv6:
		return "Nothing: IPv6 is closed."
	case d.Reason == policy.Answered:
		return "The zone would have to have dns.force switched off."
	case d.Reason == api.Within:
		return "Nothing on the box: put one of the two into another zone to have it decide."
	}
	return "No rule can allow it: the packet would have to come from where it belongs."
}

// service is what flows know of a service: a protocol, and ports or ICMP types.
type service struct {
	proto  uint8
	lo, hi uint16
}

var serviceWord = regexp.MustCompile(`^(?:proto/([0-9]{1,3})|([a-z]+)(?:/([0-9]{1,5})(?:-([0-9]{1,5}))?)?)$`)

// servicesOf reads the services that an answer is about. There are none if it is about
// everything.
func servicesOf(verdicts []api.Verdict) (list []service) {
	for _, d := range verdicts {
		for _, word := range d.Services {
			m := serviceWord.FindStringSubmatch(word)
			if m == nil {
				return nil
			}
			s := service{hi: 65535}
			if n, err := strconv.ParseUint(m[1], 10, 8); err == nil {
				s.proto = uint8(n)
			} else if p, ok := model.ProtoByName(m[2]); ok {
				s.proto = p
			} else {
				return nil
			}
			if n, err := strconv.ParseUint(m[3], 10, 16); err == nil {
				s.lo, s.hi = uint16(n), uint16(n)
			}
			if n, err := strconv.ParseUint(m[4], 10, 16); err == nil {
				s.hi = uint16(n)
			}
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

const (
	likeOnPage = 10   // flows that an answer shows
	likeLooked = 1000 // flows of a protocol that are looked through for more than one port
)

// flowsLike asks for the last flows of the kind, once for each protocol.
func (v *visit) flowsLike(w *api.Why) ([]flowRow, error) {
	services := servicesOf(w.Verdicts)
	byProto := map[uint8][]service{}
	for _, s := range services {
		byProto[s.proto] = append(byProto[s.proto], s)
	}
	if len(services) == 0 {
		byProto[0] = nil
	}
	var list []record.Record
	for proto, services := range byProto {
		q := url.Values{"from": {w.From}, "to": {w.To}, "limit": {strconv.Itoa(likeOnPage)}}
		if proto != 0 {
			q.Set("proto", strconv.Itoa(int(proto)))
		}
		switch {
		case len(services) == 1 && services[0].lo == services[0].hi:
			q.Set("port", strconv.Itoa(int(services[0].lo)))
		case len(services) > 0:
			q.Set("limit", strconv.Itoa(likeLooked))
		}
		found, err := askFlowd[[]record.Record](v, "/v1/flows", q)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if proto == 0 || slices.ContainsFunc(services, func(s service) bool { return s.lo <= r.Dst.Port && r.Dst.Port <= s.hi }) {
				list = append(list, r)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b record.Record) int { return b.End.Compare(a.End) })
	list = list[:min(len(list), likeOnPage)]
	var rows []flowRow
	for i := range list {
		r := &list[i]
		row := flowRow{At: v.when(r.Start), From: r.Src.Who(), To: r.Dst.Who(), About: r.App, Allowed: r.Verdict == record.Allowed}
		if r.Name != "" {
			row.To = r.Name
		}
		if row.About == "" {
			row.About = fmt.Sprintf("%s/%d", model.ProtoName(r.Proto), r.Dst.Port)
		}
		if row.Allowed {
			row.What = fmt.Sprintf("allowed by %s, %s", r.Rule, bytesText(r.Out.Bytes+r.In.Bytes))
		} else if r.Rule != "" {
			row.What = fmt.Sprintf("%d refused by %s", r.Out.Packets, r.Rule)
		} else {
			row.What = fmt.Sprintf("%d refused: %s", r.Out.Packets, r.Reason)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
