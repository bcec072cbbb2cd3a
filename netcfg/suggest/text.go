package suggest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// YAML writes the proposal as an item of the file's list "allow", with its evidence as
// comments. Its why is empty, which no file may have: the reason is what only people know.
func (p Proposal) YAML(loc *time.Location) string {
	var b strings.Builder
	for _, s := range p.Evidence {
		fmt.Fprintf(&b, "  # %s\n", s.sentence(loc))
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "  # and %d more kinds of connections\n", p.More)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "  # note: %s\n", n)
	}
	fmt.Fprintf(&b, "  - name: %s\n    from: %s\n    to: %s\n    protocols: %s\n    why: \"\"\n", p.Name, list(p.From), list(p.To), list(p.Protocols))
	return b.String()
}

func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (p Party) String() string {
	switch {
	case p.Device != "":
		return p.Device
	case p.Addr.IsValid():
		return p.Addr.String() + " (" + p.Zone + ")"
	}
	return p.Zone
}

// sentence says what was seen. DNS names are strangers' words: they are quoted.
func (s Seen) sentence(loc *time.Location) string {
	what := "refused"
	if s.Rule != "" {
		what = "seen"
	}
	to := s.To.String()
	if s.Name != "" {
		to += " " + strconv.QuoteToASCII(s.Name)
	}
	const day = "2006-01-02"
	when := s.First.In(loc).Format(day)
	if last := s.Last.In(loc).Format(day); last != when {
		when += " to " + last
	}
	return fmt.Sprintf("%s → %s %s: %s %d×, %s", s.From, to, model.ServiceOf(s.Proto, s.Port), what, s.Count, when)
}
