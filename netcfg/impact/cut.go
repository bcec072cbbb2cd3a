package impact

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"bulkhead/netcfg/model"
)

// maxExamples is how many connections are named at most.
const maxExamples = 5

// Conn is an open connection.
type Conn struct {
	Src, Dst netip.Addr // who began it, and whose answers come: after any translation
	Proto    uint8
	Port     uint16 // destination port, as it was asked for; the type of ICMP
	Mark     uint32 // of the rule that let it begin
}

// Cut is what the change does to open connections.
type Cut struct {
	Count int       `json:"count"`
	Rules []CutRule `json:"rules,omitempty"` // most connections first
}

// CutRule is the connections that a rule had let begin.
type CutRule struct {
	Rule     string   `json:"rule,omitempty"` // "": not known
	Count    int      `json:"count"`
	Examples []string `json:"examples,omitempty"`
}

// Cut counts the connections that end, by the rule that had let them begin, and names
// a few of them. It is nil if they are not known.
func (c Change) Cut() *Cut {
	if !c.Live {
		return nil
	}
	cut := &Cut{Count: len(c.Ends)}
	said := map[string][]string{} // by rule, each text once
	counts := map[string]int{}
	for _, conn := range c.Ends {
		name := ""
		if r := c.Old.Policy.RuleByMark(conn.Mark); r != nil {
			name = r.Name
		}
		counts[name]++
		if len(said[name]) == maxExamples {
			continue
		}
		if text := c.words(conn); !slices.Contains(said[name], text) {
			said[name] = append(said[name], text)
		}
	}
	for name, n := range counts {
		cut.Rules = append(cut.Rules, CutRule{Rule: name, Count: n})
	}
	slices.SortFunc(cut.Rules, func(a, b CutRule) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Rule, b.Rule))
	})
	cut.spread(said)
	return cut
}

// spread gives each rule an example before any has a second one.
func (cut *Cut) spread(said map[string][]string) {
	left := maxExamples
	for i := range maxExamples {
		for j := range cut.Rules {
			r := &cut.Rules[j]
			if all := said[r.Rule]; left > 0 && i < len(all) {
				r.Examples = append(r.Examples, all[i])
				left--
			}
		}
	}
}

func (c Change) words(conn Conn) string {
	s := model.Service{Proto: conn.Proto}
	switch {
	case conn.Proto == model.ProtoICMP:
		s.Type, s.Lo, s.Hi = true, conn.Port, conn.Port
	case model.HasPorts(conn.Proto):
		s.Ports, s.Lo, s.Hi = true, conn.Port, conn.Port
	}
	return fmt.Sprintf("%s → %s: %s", c.Old.name(conn.Src), c.Old.name(conn.Dst), s)
}

// name is how people call an address: the device, the box, or the address itself and
// its zone. What a machine says of itself is not believed.
func (s Side) name(a netip.Addr) string {
	if d := s.device(a); d != nil {
		return d.Name
	}
	z := s.Policy.Config.ZoneOf(a)
	switch up := s.Policy.Env.Uplink; {
	case a.IsLoopback(), up.IsValid() && a == up.Addr(), z != nil && a == z.Gateway:
		return model.Box
	case z == nil:
		return a.String()
	}
	return fmt.Sprintf("%s (%s)", a, z.Name)
}
