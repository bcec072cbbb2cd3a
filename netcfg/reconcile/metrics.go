//go:build linux

package reconcile

import (
	"context"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/services/metrics"
)

// metrics writes how the box is, and what was refused.
func (r *Reconciler) metrics(p *metrics.Page) {
	ctx := context.Background()
	if s, err := r.Status(ctx); err == nil { // it never fails
		statusMetrics(p, s)
	}
	if zones, err := r.Zones(ctx); err == nil { // or there is nothing to tell yet
		zoneMetrics(p, zones)
	}
	if rules, err := r.Rules(ctx); err == nil { // as above
		ruleMetrics(p, rules)
	}
}

func statusMetrics(p *metrics.Page, s *api.Status) {
	var modes []metrics.Sample
	for _, m := range []api.Mode{api.Running, api.Setup, api.Closed} {
		modes = append(modes, metrics.Of(metrics.Truth(s.Mode == m), "mode", string(m)))
	}
	p.Gauge("mode", "What the box does as a whole: 1 with its mode.", modes...)
	p.Gauge("applied", "Whether the network is as it should be.", metrics.Of(metrics.Truth(s.Applied)))
	if c := s.Confirmed; c != nil {
		p.Gauge("change_number", "Number of the change that was confirmed last.", metrics.Of(c.Number))
		p.Gauge("change_confirmed_time_seconds", "When that was, since 1970.", metrics.Of(c.Time.Unix()))
	}
	p.Gauge("change_pending", "Whether a change is on trial.", metrics.Of(metrics.Truth(s.Pending != nil)))
	p.Gauge("uplink", "Whether the uplink has an address.", metrics.Of(metrics.Truth(s.Uplink != nil)))
	p.Gauge("troubles", "What could not be done in the last round.", metrics.Of(len(s.Troubles)))
	p.Gauge("warnings", "Warnings about the file in force.", metrics.Of(len(s.Warnings)))
	p.Gauge("missing", "Ports and links that the file names and the box does not have.", metrics.Of(len(s.Missing)))
	p.Gauge("secrets_overdue", "Secrets that have had their value for more than a year.", metrics.Of(len(s.Overdue)))
	p.Counter("drift_repaired_total", "Steps of drift that were put right.", metrics.Of(s.Repairs))
	p.Counter("connections_cut_total", "Connections ended because no rule allows them any more.", metrics.Of(s.Cut))
	var untaken []metrics.Sample
	for _, name := range s.Untaken {
		untaken = append(untaken, metrics.Of(1, "service", name))
	}
	p.Gauge("service_untaken", "1 for each service that has not taken what it was last told.", untaken...)
}

func zoneMetrics(p *metrics.Page, zones []api.Zone) {
	var links, leases, devices []metrics.Sample
	for _, z := range zones {
		links = append(links, metrics.Of(metrics.Truth(z.Link != ""), "zone", z.Name))
		leases = append(leases, metrics.Of(z.Leases, "zone", z.Name))
		devices = append(devices, metrics.Of(z.Devices, "zone", z.Name))
	}
	p.Gauge("zone_link", "Whether the zone's link is there.", links...)
	p.Gauge("zone_leases", "Addresses that are given to devices.", leases...)
	p.Gauge("zone_devices", "Devices of the file.", devices...)
}

func ruleMetrics(p *metrics.Page, rules *api.Rules) {
	kinds := map[string]int{"allow": 0, "block": 0, "forward": 0}
	expired := 0
	var ends []metrics.Sample
	for _, r := range rules.Rules {
		kinds[r.Kind]++
		switch {
		case r.Expired:
			expired++
		case !r.Until.IsZero():
			ends = append(ends, metrics.Of(r.Until.Unix(), "kind", r.Kind, "rule", r.Name))
		}
	}
	p.Gauge("rules", "Rules of the file.", metrics.ByKey("kind", kinds)...)
	p.Gauge("rules_expired", "Rules that are over.", metrics.Of(expired))
	p.Gauge("rule_ends_time_seconds", "When a rule will be over, since 1970.", ends...)

	var packets, sizes []metrics.Sample
	for _, c := range rules.Refused {
		from, to, reason := refusal(c.Name)
		packets = append(packets, metrics.Of(c.Packets, "from", from, "to", to, "reason", reason))
		sizes = append(sizes, metrics.Of(c.Bytes, "from", from, "to", to, "reason", reason))
	}
	p.Counter("refused_packets_total", "Packets refused: from one party to another, or of one party for a reason.", packets...)
	p.Counter("refused_bytes_total", "Their bytes.", sizes...)
}

// refusal takes the name of a counter apart: from_to of a pair, from.reason, or a reason.
func refusal(name string) (from, to, reason string) {
	if from, to, ok := strings.Cut(name, "_"); ok {
		return from, to, "policy"
	}
	if from, reason, ok := strings.Cut(name, "."); ok {
		return from, "", reason
	}
	return "", "", name
}
