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
	refused, err := v.refusedBetween(url.Values{})
	view := zonesView{Parties: m.Parties}
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
	if from == to {
		if from == model.Box || from == model.Internet {
			return matrixCell{Class: "self", Text: "–"}
		}
		return matrixCell{Class: "self", Text: "not through the box"}
	}
	cell := matrixCell{Path: pairOf{from, to}.path(), Class: "none", Text: "nothing"}
	switch {
	case c == nil:
	case c.All:
		cell.Class, cell.Text = "all", "all"
	case c.Allows > 0:
		cell.Class, cell.Text = "some", strings.Join(c.Words, "; ")
		if c.More > 0 {
			cell.Text += fmt.Sprintf("; %d more", c.More)
		}
	}
	if c != nil && c.Blocks > 0 {
		cell.Text += fmt.Sprintf("; %d blocked", c.Blocks)
	}
	return cell
}

// refusedBetween asks what was refused in the last hour, in packets.
func (v *visit) refusedBetween(q url.Values) (map[pairOf]uint64, error) {
	q.Set("verdict", record.Refused.String())
	q.Set("since", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	q.Set("limit", strconv.Itoa(flows.MaxLimit))
	t, err := askFlowd[flows.Talks](v, "/v1/flows/talks", q)
	if err != nil {
		return nil, err
	}
	sums := map[pairOf]uint64{}
	for _, s := range t.Talks {
		sums[pairOf{s.From.Zone, s.To.Zone}] += s.Sum.Refused
	}
	return sums, nil
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
	Edit        string // address of the form; "": the rule is not of the file
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
			row.Last = v.when(v.lastUse(from, to, r.Name))
		}
		view.Rules = append(view.Rules, row)
	}
	if sums, err := v.refusedBetween(url.Values{"from": {from}, "to": {to}}); err == nil {
		view.Refused = sums[pairOf{from, to}]
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

// usesOf asks how often the rules of a cell decided.
func (v *visit) usesOf(from, to string) (map[string]record.Sum, error) {
	list, err := askFlowd[[]record.Sum](v, "/v1/flows/top", url.Values{
		"from": {from}, "to": {to}, "per": {string(record.PerRule)}, "by": {string(record.ByConnections)},
		"since": {time.Now().AddDate(0, 0, -ruleDays).UTC().Format(time.RFC3339)}, "limit": {"1000"},
	})
	uses := map[string]record.Sum{}
	for _, s := range list {
		uses[s.Key] = s
	}
	return uses, err
}

// lastUse asks when a rule last decided; it is zero if nobody knows.
func (v *visit) lastUse(from, to, rule string) time.Time {
	list, err := askFlowd[[]record.Record](v, "/v1/flows", url.Values{"from": {from}, "to": {to}, "rule": {rule}, "limit": {"1"}})
	if err != nil || len(list) == 0 {
		return time.Time{}
	}
	return list[0].End
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

var portWord = regexp.MustCompile(`^(tcp|udp)/([0-9]{1,5})$`)

// flowsLike asks for the last flows of the kind.
func (v *visit) flowsLike(w *api.Why) ([]flowRow, error) {
	q := url.Values{"from": {w.From}, "to": {w.To}, "limit": {"10"}}
	if len(w.Verdicts) > 0 && len(w.Verdicts[0].Services) > 0 {
		if m := portWord.FindStringSubmatch(w.Verdicts[0].Services[0]); m != nil {
			q.Set("proto", map[string]string{"tcp": "6", "udp": "17"}[m[1]])
			q.Set("port", m[2])
		}
	}
	list, err := askFlowd[[]record.Record](v, "/v1/flows", q)
	if err != nil {
		return nil, err
	}
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
