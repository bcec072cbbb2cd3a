package update

import "bulkhead/services/metrics"

// metrics writes what is known without a look at the disk.
func (u *updater) metrics(p *metrics.Page) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p.Gauge("system_info", "The system that runs: 1 with what it is.",
		metrics.Of(1, "version", u.box.info.Version, "kernel", u.box.kernel, "arch", u.box.arch, "slot", u.box.slot.String()))
	if built := u.box.info.Built; !built.IsZero() {
		p.Gauge("system_built_time_seconds", "When the system that runs was built, since 1970.", metrics.Of(built.Unix()))
	}
	p.Gauge("trial", "Whether the system that runs has yet to prove itself.", metrics.Of(metrics.Truth(u.trial)))
	p.Gauge("trial_waiting", "Proofs that are still missing.", metrics.Of(len(u.waiting)))
	p.Gauge("receiving", "Whether an update is being received.", metrics.Of(metrics.Truth(u.staging != nil)))
}
