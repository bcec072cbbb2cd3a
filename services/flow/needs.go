//go:build linux

package flow

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// maxNeeds bounds the kinds of connections that are told apart. Who scans makes many.
const maxNeeds = 20_000

// needs answers with what was refused because no rule allows it, and with what only the
// observation of a zone let pass: what rules could be proposed for; and with the rules
// that decided something of late.
func (d *daemon) needs(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseQuery(r.URL.Query(), d.isZone)
	if err != nil {
		refuse(w, err)
		return
	}
	out := api.Needs{Needs: []api.Need{}, Oldest: d.store.Stats().Oldest, Used: map[string]int{}}
	kinds := make(map[api.Kind]*api.Need)
	err = d.store.Find(r.Context(), q.Filter, 0, func(r *record.Record) bool {
		observed := strings.HasPrefix(r.Rule, api.Observing)
		if r.Verdict != record.Refused && !observed || !r.Src.Addr.IsValid() {
			return true
		}
		k := kindOf(r)
		n := kinds[k]
		if n == nil {
			if len(kinds) == maxNeeds {
				out.More++
				return true
			}
			n = &api.Need{Kind: k, First: r.Start, Last: r.End}
			kinds[k] = n
		}
		n.Add(r)
		return true
	})
	now := time.Now()
	for _, days := range []int{90, 30} { // the latter overwrites
		for _, m := range []record.Measure{record.ByConnections, record.ByRefused} {
			var list []record.Sum
			if err == nil {
				list, err = d.store.Top(r.Context(), record.Filter{Since: now.AddDate(0, 0, -days)}, m, record.PerRule, 10_000)
			}
			for _, s := range list {
				out.Used[s.Key] = days
			}
		}
	}
	for _, n := range kinds {
		out.Needs = append(out.Needs, *n)
	}
	slices.SortFunc(out.Needs, func(a, b api.Need) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last), a.From.Addr.Compare(b.From.Addr), a.To.Addr.Compare(b.To.Addr), cmp.Compare(a.Port, b.Port))
	})
	respond(w, out, err)
}

// kindOf is what a rule could name of a record. The internet is one place: who is asked
// there changes with every minute.
func kindOf(r *record.Record) api.Kind {
	k := api.Kind{
		From: api.Party{Zone: r.Src.Zone, Device: r.Src.Device, Addr: r.Src.Addr}, To: api.Party{Zone: r.Dst.Zone, Device: r.Dst.Device, Addr: r.Dst.Addr},
		Proto: r.Proto, Port: r.Dst.Port, Rule: r.Rule, Reason: r.Reason,
	}
	if k.To.Zone == model.Internet {
		k.To.Addr = netip.Addr{}
	}
	if k.From.Zone == model.Internet {
		k.From.Addr = netip.Addr{}
	}
	return k
}
