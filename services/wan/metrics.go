package wan

import "bulkhead/services/metrics"

// metrics writes the status, as it was written last.
func (d *daemon) metrics(p *metrics.Page) {
	s := d.shown.Load()
	if s == nil {
		return
	}
	p.Gauge("state", "What the uplink's client does: 1 with its state.", metrics.Of(1, "state", s.State, "link", s.Link))
	p.Gauge("lease", "Whether the uplink has an address.", metrics.Of(metrics.Truth(s.Address.IsValid())))
	if !s.Expires.IsZero() {
		p.Gauge("lease_expires_time_seconds", "When the uplink's lease ends, since 1970.", metrics.Of(s.Expires.Unix()))
	}
	p.Counter("answers_refused_total", "Answers of DHCP servers that made no sense.", metrics.Of(s.Refused))
	p.Gauge("trouble", "Whether something went wrong since the lease was last given.", metrics.Of(metrics.Truth(s.LastError != "")))
}
