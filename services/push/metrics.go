package push

import "bulkhead/services/metrics"

// metrics writes the status.
func (p *pusher) metrics(page *metrics.Page) {
	s := p.shown.Load()
	if s == nil {
		return
	}
	page.Gauge("failing", "Whether the last attempt to push failed.", metrics.Of(metrics.Truth(s.Error != "")))
	if !s.At.IsZero() {
		page.Gauge("last_success_time_seconds", "When the remote was last known to have the history, since 1970.", metrics.Of(s.At.Unix()))
	}
}
