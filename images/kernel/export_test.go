package kernel

import "time"

// Progress gives tests what the progress line is made of.
type Progress struct{ p progress }

// NewProgress returns the progress of a build of total objects.
func NewProgress(total int) *Progress { return &Progress{progress{total: total}} }

// See takes note of a line of make's.
func (p *Progress) See(line string) { p.p.see(line) }

// Estimate says how much longer it takes.
func (p *Progress) Estimate(elapsed time.Duration) string { return p.p.estimate(elapsed) }

// CompareVersions orders versions.
var CompareVersions = compareVersions

// Installed makes Options believe that all packages are there.
func (o Options) Installed() Options {
	o.tools = []tool{}
	return o
}
