//go:build linux

package webui

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bulkhead/netcfg/suggest"
	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
)

// suggestPages propose what to put into the file.
var suggestPages = []page{
	{"GET /suggest", access.Read, "Suggestions", true, (*visit).suggestPage},
}

// suggestView is what follows from what was seen: that of "bulkhead suggest".
type suggestView struct {
	Since     string
	Error     string
	Proposals []proposedRule
	LeftOut   []suggest.LeftOut
	Unused    []unusedRow
	Oldest    when
	More      int // records of kinds that there was no room for
}

// proposedRule is an allow that would let pass what was seen.
type proposedRule struct {
	suggest.Proposal
	Text  string
	Seen  []seenRow
	Draft string // address of the form; "": it is not for the visitor
}

type seenRow struct {
	From, To, What string
	Count          uint64
	First, Last    when
}

// unusedRow is a rule that decided nothing.
type unusedRow struct {
	suggest.Unused
	Path string
}

func (v *visit) suggestPage() error {
	view := suggestView{Since: cmp.Or(strings.TrimSpace(v.URL.Query().Get("since")), "7d")}
	ask, err := v.flowQuery(flowFilters{Since: view.Since})
	if err != nil {
		view.Error = upperFirst(err.Error()) + "."
		return v.showAs(http.StatusUnprocessableEntity, "suggest", view)
	}
	c, err := v.known()
	if err != nil {
		return err
	}
	needs, err := askFlowd[flows.Needs](v, "/v1/flows/needs", ask)
	if err != nil {
		return err
	}
	seen := make([]suggest.Seen, len(needs.Needs))
	for i, n := range needs.Needs {
		seen[i] = suggest.Seen{
			From: suggest.Party(n.From), To: suggest.Party(n.To), Proto: n.Proto, Port: n.Port, Rule: n.Rule, Reason: n.Reason,
			Count: n.Count, First: n.First, Last: n.Last, Name: n.Name,
		}
	}
	found := suggest.Allows(c.Config, seen)
	for i := range found.Proposals {
		view.Proposals = append(view.Proposals, v.proposedRule(&found.Proposals[i]))
	}
	view.LeftOut, view.More, view.Oldest = found.LeftOut, needs.More, v.when(needs.Oldest)
	now := time.Now()
	oldest := needs.Oldest
	if oldest.IsZero() {
		oldest = now
	}
	rules := v.ruleLists()
	for _, u := range suggest.Rules(c.Config, flows.LastUses(needs.Used, now), oldest, now, 30, 90) {
		view.Unused = append(view.Unused, unusedRow{u, rules.path(u.Name)})
	}
	return v.show("suggest", view)
}

func (v *visit) proposedRule(p *suggest.Proposal) proposedRule {
	row := proposedRule{Proposal: *p, Text: fmt.Sprintf("%s → %s: %s", strings.Join(p.From, ", "), strings.Join(p.To, ", "), strings.Join(p.Protocols, ", "))}
	if v.may(access.Plan) {
		row.Draft = newRulePath(p)
	}
	for _, s := range p.Evidence {
		to := s.To.String()
		if s.Name != "" {
			to = s.Name
		}
		row.Seen = append(row.Seen, seenRow{s.From.String(), to, serviceText(s.Proto, s.Port), s.Count, v.when(s.First), v.when(s.Last)})
	}
	return row
}
