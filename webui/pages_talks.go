//go:build linux

package webui

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// talkPages are a picture of who speaks with whom.
var talkPages = []page{
	{"GET /talks", access.Read, "Who talks to whom", true, (*visit).talksPage},
}

// Bounds of what the page shows.
const (
	maxTalks     = 2000 // that flowd is asked for
	maxTalkLines = 150  // in the picture
	maxTalkRows  = 60   // in the table
	maxPlaces    = 12   // devices of one zone, on one side of the picture
)

// talksView is who talks to whom.
type talksView struct {
	Zone, Since, Until string
	Zones              []string
	Error              string
	Picture            template.HTML
	Rows               []talkLineRow
	Thin, More         int    // lines that are not in the picture, and not in the table
	Rest               string // what no line is for; "": nothing
}

type talkLineRow struct {
	From, To    flowSide
	About       string
	Sent, Back  string
	Connections uint64
	Refused     uint64
	Path        string // of the flows
}

func (v *visit) talksPage() error {
	f := readFlowFilters(v.URL.Query())
	f.Since = cmp.Or(f.Since, "24h")
	view := talksView{Zone: f.Zone, Since: f.Since, Until: f.Until}
	var err error
	if view.Zones, err = v.parties(); err != nil {
		return err
	}
	ask, err := v.flowQuery(flowFilters{Zone: f.Zone, Since: f.Since, Until: f.Until})
	var t flows.Talks
	if err == nil {
		ask.Set("limit", fmt.Sprint(maxTalks))
		t, err = askFlowd[flows.Talks](v, "/v1/flows/talks", ask)
	}
	switch {
	case errors.Is(err, errAway):
		return err
	case err != nil:
		view.Error = upperFirst(strings.TrimPrefix(err.Error(), errForm.Error()+": ")) + "."
		return v.showAs(http.StatusUnprocessableEntity, "talks", view)
	}
	lines := joinTalks(t.Talks)
	shown := lines[:min(len(lines), maxTalkLines)]
	view.Picture, view.Thin = drawTalks(shown), len(lines)-len(shown)
	for _, l := range lines[:min(len(lines), maxTalkRows)] {
		view.Rows = append(view.Rows, l.row(view))
	}
	view.More = len(lines) - len(view.Rows)
	if r := t.Rest; r.Connections+r.Refused > 0 {
		view.Rest = fmt.Sprintf("%d connections with %s, and %d refused packets", r.Connections, bytesText(r.Out.Bytes+r.In.Bytes), r.Refused)
	}
	return v.show("talks", view)
}

// talkLine is all that one party has to do with another one, be it allowed or refused.
type talkLine struct {
	From, To record.Party
	Refused  bool
	Sum      record.Sum
	About    []string
}

// weight is how important a line is. A packet that was refused is worth as much as a
// megabyte that was not: its bytes say nothing.
func (l *talkLine) weight() uint64 {
	if l.Refused {
		return 1_000_000 * l.Sum.Refused
	}
	return l.Sum.Out.Bytes + l.Sum.In.Bytes
}

// text says the line in words.
func (l *talkLine) text() string {
	who := fmt.Sprintf("%s → %s: ", partyText(l.From), partyText(l.To))
	if l.Refused {
		return who + fmt.Sprintf("%d packets refused", l.Sum.Refused)
	}
	return who + bytesText(l.Sum.Out.Bytes+l.Sum.In.Bytes)
}

// partyText is how people call a party.
func partyText(p record.Party) string {
	switch {
	case p.Device != "":
		return p.Device
	case p.Zone == model.Internet, p.Zone == model.Box:
		return p.Zone
	}
	return or(p.Zone, "unknown") + " (no device with a name)"
}

func (l *talkLine) row(view talksView) talkLineRow {
	side := func(p record.Party) flowSide {
		s := flowSide{Who: partyText(p), Zone: p.Zone}
		if p.Device != "" {
			s.Path = "/devices/" + url.PathEscape(p.Device)
		}
		return s
	}
	q := flowFilters{From: or(l.From.Device, l.From.Zone), To: or(l.To.Device, l.To.Zone), Since: view.Since, Until: view.Until}.Values()
	row := talkLineRow{From: side(l.From), To: side(l.To), About: strings.Join(l.About[:min(len(l.About), 4)], ", ")}
	if len(l.About) > 4 {
		row.About += fmt.Sprintf(" and %d more", len(l.About)-4)
	}
	if l.Refused {
		row.Refused = l.Sum.Refused
		q.Set("verdict", record.Refused.String())
	} else {
		row.Connections, row.Sent, row.Back = l.Sum.Connections, bytesText(l.Sum.Out.Bytes), bytesText(l.Sum.In.Bytes)
		q.Set("verdict", record.Allowed.String())
	}
	row.Path = "/flows?" + q.Encode()
	return row
}

// joinTalks adds up what the same two parties have to do with each other, the weightiest
// first.
func joinTalks(talks []record.TalkSum) []*talkLine {
	type key struct {
		from, to record.Party
		refused  bool
	}
	lines := map[key]*talkLine{}
	var list []*talkLine
	for i := range talks {
		t := &talks[i]
		k := key{t.From, t.To, t.Verdict == record.Refused}
		l := lines[k]
		if l == nil {
			l = &talkLine{From: t.From, To: t.To, Refused: k.refused}
			lines[k] = l
			list = append(list, l)
		}
		l.Sum.Connections += t.Sum.Connections
		l.Sum.Refused += t.Sum.Refused
		l.Sum.Out.Add(t.Sum.Out)
		l.Sum.In.Add(t.Sum.In)
		if about := or(t.App, serviceText(t.Proto, t.Port)); !slices.Contains(l.About, about) {
			l.About = append(l.About, about)
		}
	}
	slices.SortFunc(list, func(a, b *talkLine) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a.text(), b.text()))
	})
	return list
}
