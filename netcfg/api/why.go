package api

import (
	"fmt"
	"slices"
	"strings"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Why is the answer to "may this reach that?".
type Why struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Protocol string `json:"protocol"`
	// Verdicts are for the endpoints as a whole first. Devices and addresses follow
	// for which something else holds.
	Verdicts []Verdict `json:"verdicts"`
}

// Allowed reports whether all that was asked about is allowed.
func (w *Why) Allowed() bool {
	return len(w.Verdicts) > 0 && !slices.ContainsFunc(w.Verdicts, func(v Verdict) bool { return !v.Allow })
}

// Verdict is what happens to connections between two endpoints.
type Verdict struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	Services []string      `json:"services"` // as the configuration writes them
	Allow    bool          `json:"allow"`
	Rule     string        `json:"rule,omitempty"` // that decided
	Why      string        `json:"why"`            // the rule's, or what is the case without one
	Pos      *diag.Pos     `json:"pos,omitempty"`  // of the rule; nil for the box's own
	Reason   policy.Reason `json:"reason"`
}

// String says it in one line: guest → internet: tcp/443 is allowed by browsing (f.yaml:3:5).
func (v Verdict) String() string {
	s := fmt.Sprintf("%s → %s: %s is %s", v.From, v.To, strings.Join(v.Services, ", "), v.Outcome())
	switch {
	case v.Rule == "":
		return s + ": " + v.Why
	case v.Pos == nil:
		return s + " by " + v.Rule
	}
	return fmt.Sprintf("%s by %s (%s)", s, v.Rule, v.Pos)
}

// Within says that both ends are in one zone: their packets do not come by the box,
// which neither allows nor denies them.
const Within policy.Reason = "zone"

// Outcome is the verdict in a word.
func (v Verdict) Outcome() string {
	switch {
	case v.Allow:
		return "allowed"
	case v.Reason == Within:
		return "not decided"
	}
	return "denied"
}

// reasons says in words why, where no rule does.
var reasons = map[policy.Reason]string{
	policy.NotAllowed: "no rule allows it",
	policy.Spoofed:    "the source address does not belong there",
	policy.Borrowed:   "the source address belongs to a device with another MAC",
	policy.Bogon:      "nobody on the internet has this source address",
	policy.IPv6:       "IPv6 is closed",
	policy.Isolated:   "one of the two is isolated",
	policy.Answered:   "the box answers it itself, as dns.force says",
	policy.Elsewhere:  "the box does not pass on packets to that address from there",
	policy.Loopback:   "the box talks to itself",
}

func verdict(from, to policy.Host, services []model.Service, d policy.Decision) Verdict {
	v := Verdict{From: from.Name(), To: to.Name(), Services: words(services), Allow: d.Allow, Reason: d.Reason, Why: reasons[d.Reason]}
	if from.Party == to.Party && d.Reason == policy.Elsewhere {
		v.Reason, v.Why = Within, "both are in one zone, and the box is not in between"
	}
	if d.Rule != nil {
		v.Rule, v.Why = d.Rule.Name, d.Rule.Why
		if d.Rule.Pos.Line > 0 {
			v.Pos = &d.Rule.Pos
		}
	}
	return v
}

// Explain asks a policy about all connections between two lists of endpoints.
func Explain(p *policy.Policy, from, to []model.Endpoint, services []model.Service) []Verdict {
	var verdicts []Verdict
	for _, f := range from {
		for _, t := range to {
			var answers []policy.Answer
			for _, s := range services {
				answers = append(answers, p.Query(f, t, s)...)
			}
			verdicts = append(verdicts, digest(answers, services)...)
		}
	}
	return verdicts
}

// digest turns the answers for two endpoints into few verdicts: services that share
// a fate are joined, and hosts are named only where theirs does not follow from what
// was said before.
func digest(answers []policy.Answer, asked []model.Service) []Verdict {
	g := newGrid(answers)
	said := map[[2]int]string{}
	var verdicts []Verdict
	for i := range g.from {
		for j := range g.to {
			found := byDecision(g.cells[[2]int{i, j}], asked)
			said[[2]int{i, j}] = fates(found)
			if i+j == 0 || said[[2]int{i, j}] != expected(said, i, j) {
				verdicts = append(verdicts, found...)
			}
		}
	}
	return verdicts
}

// expected is what the fates between hosts i and j are if nothing is special about
// their meeting: 0 stands for the endpoint as a whole, which is the rule for the
// others.
func expected(said map[[2]int]string, i, j int) string {
	whole, row, column := said[[2]int{0, 0}], said[[2]int{i, 0}], said[[2]int{0, j}]
	switch {
	case i == 0 || j == 0:
		return whole
	case row == column:
		return row
	case row == whole:
		return column
	case column == whole:
		return row
	}
	return "" // two exceptions meet
}

// grid is answers by source and destination, each in order of appearance.
type grid struct {
	from, to []string
	cells    map[[2]int][]policy.Answer
}

func newGrid(answers []policy.Answer) grid {
	g := grid{cells: map[[2]int][]policy.Answer{}}
	index := func(names *[]string, name string) int {
		i := slices.Index(*names, name)
		if i < 0 {
			i = len(*names)
			*names = append(*names, name)
		}
		return i
	}
	for _, a := range answers {
		cell := [2]int{index(&g.from, a.From.Name()), index(&g.to, a.To.Name())}
		g.cells[cell] = append(g.cells[cell], a)
	}
	return g
}

// everythingElse stands for the services that share the fate of what no rule names,
// of which [policy.Policy.Query] shows one: the IP protocol for experiments.
const (
	everythingElse = "everything else"
	unnamedProto   = 253
)

// byDecision makes one verdict of all services that share a decision. One decision
// for all is given for what was asked, as it was asked.
func byDecision(answers []policy.Answer, asked []model.Service) []Verdict {
	var verdicts []Verdict
	var services [][]model.Service
	for _, a := range answers {
		v := verdict(a.From, a.To, nil, a.Decision)
		i := slices.IndexFunc(verdicts, func(o Verdict) bool {
			return o.Allow == v.Allow && o.Rule == v.Rule && o.Reason == v.Reason
		})
		if i < 0 {
			i = len(verdicts)
			verdicts, services = append(verdicts, v), append(services, nil)
		}
		services[i] = join(services[i], a.Service)
	}
	if len(verdicts) == 1 {
		verdicts[0].Services = words(asked)
		return verdicts
	}
	rest := -1
	for i := range verdicts {
		verdicts[i].Services = words(services[i])
		if slices.ContainsFunc(services[i], func(s model.Service) bool { return s.Proto == unnamedProto }) {
			verdicts[i].Services, rest = []string{everythingElse}, i
		}
	}
	if rest >= 0 {
		last := verdicts[rest]
		verdicts = append(slices.Delete(verdicts, rest, rest+1), last)
	}
	return verdicts
}

// join appends s to a list of services, as one with the last if they touch.
func join(list []model.Service, s model.Service) []model.Service {
	if slices.Contains(list, s) {
		return list
	}
	if n := len(list); n > 0 {
		last := &list[n-1]
		same := last.Proto == s.Proto && last.Ports == s.Ports && last.Type == s.Type && (s.Ports || s.Type)
		if same && uint32(last.Hi)+1 == uint32(s.Lo) {
			last.Hi = s.Hi
			return list
		}
	}
	return append(list, s)
}

// fates is what verdicts say, without between whom.
func fates(verdicts []Verdict) string {
	var b strings.Builder
	for _, v := range verdicts {
		fmt.Fprintln(&b, v.Services, v.Allow, v.Rule, v.Reason)
	}
	return b.String()
}
