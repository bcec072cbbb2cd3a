package suggest

import (
	"cmp"
	"slices"
	"time"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// Unused is a rule that decided nothing for as long as the records tell.
type Unused struct {
	Name string    `json:"name"`
	Kind string    `json:"kind"` // allow, block or forward
	Why  string    `json:"why"`
	Last time.Time `json:"last,omitzero"` // it decided something; zero: never, as far as is known
	Days int       `json:"days"`          // without a match: a bound that was asked for
	Pos  diag.Pos  `json:"pos"`
}

// Rules lists the rules of a configuration that decided nothing for one of the numbers of
// days, the longest first. Last says when each rule last decided something; records go
// back to since: of the time before nothing is claimed.
func Rules(cfg *model.Config, last map[string]time.Time, since, now time.Time, days ...int) []Unused {
	slices.SortFunc(days, func(a, b int) int { return cmp.Compare(b, a) })
	list := []Unused{}
	look := func(u Unused) {
		u.Last = last[u.Name]
		for _, d := range days {
			from := now.AddDate(0, 0, -d)
			if !since.After(from) && u.Last.Before(from) {
				u.Days = d
				list = append(list, u)
				return
			}
		}
	}
	for _, r := range cfg.Allow {
		look(Unused{Name: r.Name, Kind: "allow", Why: r.Why, Pos: r.Pos})
	}
	for _, r := range cfg.Block {
		look(Unused{Name: r.Name, Kind: "block", Why: r.Why, Pos: r.Pos})
	}
	for _, f := range cfg.Forwards {
		look(Unused{Name: f.Name, Kind: "forward", Why: f.Why, Pos: f.Pos})
	}
	slices.SortStableFunc(list, func(a, b Unused) int { return cmp.Compare(b.Days, a.Days) })
	return list
}
