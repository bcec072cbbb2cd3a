package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Matrix is the policy as a table: what each zone, the internet and the box may open
// connections to. A cell that is not there is one of which no rule speaks: all is denied.
type Matrix struct {
	Parties []string `json:"parties"` // the zones in the order of the file, "internet" and "box"
	Cells   []Cell   `json:"cells"`
}

// Cell is what rules say about connections from one party to another.
type Cell struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Allows int    `json:"allows"` // rules that allow something
	Blocks int    `json:"blocks"` // rules that refuse something
	// All says that everything is allowed, from everything to everything.
	All bool `json:"all,omitempty"`
	// Words are what is allowed, the widest first: "https", "nfs from nextcloud to nas".
	Words []string `json:"words,omitempty"`
	More  int      `json:"more,omitempty"` // others that there was no room for
}

// cellWords is how many of a cell's words are told.
const cellWords = 3

// CellRules are the rules of one cell of the [Matrix].
type CellRules struct {
	From  string     `json:"from"`
	To    string     `json:"to"`
	Rules []CellRule `json:"rules"` // the one that decides first is first
}

// Compiled is what the packet filter has about a cell of the [Matrix].
type Compiled struct {
	From string `json:"from"`
	To   string `json:"to"`
	Text string `json:"text"` // as nft prints it; "" if there is nothing that the filter sees
}

// CellRule is what one rule says in a cell.
type CellRule struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"` // allow, block, forward, or own: the box's own, of which the file has no line
	From     []string  `json:"from"` // devices, addresses and networks; the party itself, if it is for all in it
	To       []string  `json:"to"`
	Services []string  `json:"services"`
	Why      string    `json:"why"`
	Owner    string    `json:"owner,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Pos      *diag.Pos `json:"pos,omitempty"` // nil: the box's own

	whole bool // it is for all of both parties
}

func (r *CellRule) allows() bool { return r.Kind != "block" }

// words says what the rule allows.
func (r *CellRule) words(from, to string) string {
	s := list(r.Services)
	if !slices.Contains(r.From, from) {
		s += " from " + list(r.From)
	}
	if !slices.Contains(r.To, to) {
		s += " to " + list(r.To)
	}
	return s
}

// list names a few of several.
func list(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// MatrixOf puts a policy into a table.
func MatrixOf(p *policy.Policy) *Matrix {
	m := &Matrix{Cells: []Cell{}}
	for _, z := range p.Config.Zones {
		m.Parties = append(m.Parties, z.Name)
	}
	m.Parties = append(m.Parties, model.Internet, model.Box)
	b := newCells(p)
	for _, from := range m.Parties {
		for _, to := range m.Parties {
			if rules := b.rules(from, to); len(rules) > 0 {
				m.Cells = append(m.Cells, cellOf(from, to, rules))
			}
		}
	}
	return m
}

func cellOf(from, to string, rules []CellRule) Cell {
	c := Cell{From: from, To: to}
	// What is for all in a zone says more than what is for one device. Otherwise people
	// expect the order of their file.
	slices.SortStableFunc(rules, func(a, b CellRule) int { return cmp.Or(wide(b)-wide(a), line(a)-line(b)) })
	for i := range rules {
		r := &rules[i]
		if !r.allows() {
			c.Blocks++
			continue
		}
		c.Allows++
		c.All = c.All || r.whole && slices.Equal(r.Services, []string{"any"})
		if text := r.words(from, to); len(c.Words) == cellWords {
			c.More++
		} else if !slices.Contains(c.Words, text) {
			c.Words = append(c.Words, text)
		}
	}
	c.All = c.All && c.Blocks == 0
	return c
}

func wide(r CellRule) int {
	switch {
	case r.Kind == "own":
		return 0 // everybody has those
	case r.whole:
		return 2
	}
	return 1
}

func line(r CellRule) int {
	if r.Pos == nil {
		return 0
	}
	return r.Pos.Line
}

// CellOf lists the rules of one cell, and false for parties that there are not.
func CellOf(p *policy.Policy, from, to string) (*CellRules, bool) {
	known := func(name string) bool {
		return name == model.Internet || name == model.Box || p.Config.Zone(name) != nil
	}
	if !known(from) || !known(to) {
		return nil, false
	}
	return &CellRules{From: from, To: to, Rules: newCells(p).rules(from, to)}, true
}

// cells are what is needed to tell of any cell of a policy.
type cells struct {
	p     *policy.Policy
	lines map[string]Rule // of the file, by name
}

func newCells(p *policy.Policy) *cells {
	b := &cells{p, map[string]Rule{}}
	for _, r := range RulesOf(p.Config, p.Env.Now) {
		b.lines[r.Name] = r
	}
	return b
}

// rules joins what the entries of a pair have in common: their rule.
func (b *cells) rules(from, to string) []CellRule {
	rules := []CellRule{}
	index := map[*policy.Rule]int{}
	services := map[*policy.Rule][]model.Service{}
	at := func(r *policy.Rule) *CellRule {
		i, ok := index[r]
		if !ok {
			i = len(rules)
			index[r] = i
			rules = append(rules, b.rule(r))
		}
		return &rules[i]
	}
	entries := b.p.Entries(policy.Pair{From: from, To: to})
	for _, e := range slices.Backward(entries) {
		r := at(e.Rule)
		r.From, r.To = with(r.From, b.name(from, e.From)), with(r.To, b.name(to, e.To))
		r.whole = r.whole || e.From.Whole && e.To.Whole && e.UID == 0
		if !slices.Contains(services[e.Rule], e.Service) {
			services[e.Rule] = append(services[e.Rule], e.Service)
		}
	}
	for _, f := range b.p.Forwards() {
		if from == model.Internet && f.Device.Zone.Name == to {
			r := at(f.Rule)
			r.From, r.To = with(r.From, from), with(r.To, f.Device.Name)
			services[f.Rule] = append(services[f.Rule], f.Ports...)
		}
	}
	for rule, i := range index {
		slices.Sort(rules[i].From)
		slices.Sort(rules[i].To)
		if line, ok := b.lines[rule.Name]; ok && len(line.Protocols) > 0 {
			rules[i].Services = line.Protocols // as people wrote them
		} else {
			rules[i].Services = named(services[rule])
		}
	}
	return rules
}

func (b *cells) rule(r *policy.Rule) CellRule {
	c := CellRule{Name: r.Name, Kind: "own", Why: r.Why, Until: r.Until}
	if r.Block {
		c.Kind = "block"
	}
	if line, ok := b.lines[r.Name]; ok {
		c.Kind, c.Owner = line.Kind, line.Owner
	}
	if r.Pos.Line > 0 {
		c.Pos = &r.Pos
	}
	return c
}

// name is how people call one side of an entry.
func (b *cells) name(party string, s policy.Side) string {
	if s.Whole {
		return party
	}
	h := policy.Host{Party: party, Prefix: s.Prefix}
	if s.Prefix.IsSingleIP() {
		h.Device = b.p.DeviceAt(s.Prefix.Addr())
	}
	return h.Name()
}

// named writes services as people call them, where one is usual for what they are.
func named(services []model.Service) (list []string) {
	for _, s := range services {
		name := words([]model.Service{s})[0]
		if app := model.Application(s.Proto, s.Lo); app != "" && s.Lo == s.Hi {
			name = app
		}
		list = with(list, name)
	}
	return list
}

// with appends a name that a list does not have yet.
func with(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}
