// Package metrics is how a daemon shows what it counts: a page in Prometheus' text
// exposition format, on a unix socket that webuid reads. It knows no daemon, keeps no
// counters, and parses nothing that a client sends, for no client sends anything.
package metrics

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a page. A scrape keeps every combination of label values, so whoever lets
// strangers choose them fills somebody's disk.
const (
	MaxPage    = 1 << 20 // bytes
	maxSamples = 1000    // of one family
	maxValue   = 128     // bytes of a label's value
)

// Page is a page of metrics that is being written. Its names begin with "bulkhead_" and
// the page's own prefix.
type Page struct {
	prefix  string
	buf     []byte
	leftOut int
}

// NewPage returns an empty page of names that begin with "bulkhead_<prefix>_".
func NewPage(prefix string) *Page { return &Page{prefix: "bulkhead_" + prefix + "_"} }

// Sample is one value of a family.
type Sample struct {
	value  float64
	labels []string
}

// Of makes a sample with labels: name, value, name, value.
func Of[T number](value T, labels ...string) Sample { return Sample{float64(value), labels} }

type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// ByKey makes a sample of each value, with its key as a label.
func ByKey[T number](label string, values map[string]T) []Sample {
	var list []Sample
	for _, key := range slices.Sorted(maps.Keys(values)) {
		list = append(list, Of(values[key], label, key))
	}
	return list
}

// Truth is 1 or 0.
func Truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Counter writes a family of counters. Its name, without the prefix, ends in "_total".
func (p *Page) Counter(name, help string, samples ...Sample) {
	p.family(name, "counter", help, samples)
}

// Gauge writes a family of values that go up and down.
func (p *Page) Gauge(name, help string, samples ...Sample) {
	p.family(name, "gauge", help, samples)
}

func (p *Page) family(name, kind, help string, samples []Sample) {
	if len(samples) == 0 {
		return
	}
	if n := len(samples) - maxSamples; n > 0 {
		p.leftOut += n
		samples = samples[:maxSamples]
	}
	name = p.prefix + name
	p.buf = fmt.Appendf(p.buf, "# HELP %s %s\n# TYPE %s %s\n", name, escapeHelp(help), name, kind)
	for _, s := range samples {
		p.buf = append(p.buf, name...)
		for i := 0; i+1 < len(s.labels); i += 2 {
			sep := byte(',')
			if i == 0 {
				sep = '{'
			}
			p.buf = append(append(append(p.buf, sep), s.labels[i]...), '=', '"')
			p.buf = append(append(p.buf, escape(s.labels[i+1])...), '"')
		}
		if len(s.labels) > 1 {
			p.buf = append(p.buf, '}')
		}
		format := byte('g')
		if math.Abs(s.value) < 1e15 { // people read times and bytes, too
			format = 'f'
		}
		p.buf = strconv.AppendFloat(append(p.buf, ' '), s.value, format, -1, 64)
		p.buf = append(p.buf, '\n')
	}
}

// Bytes returns the page.
func (p *Page) Bytes() []byte {
	if n := p.leftOut; n > 0 {
		p.leftOut = 0
		p.Gauge("samples_left_out", "Values that were too many for one family of this page.", Of(n))
	}
	return p.buf
}

var (
	values = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helps  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// escape writes a label's value as the format wants it: valid UTF-8, of which three
// characters are special.
func escape(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
		for i := 0; i < utf8.UTFMax && !utf8.ValidString(s); i++ { // not half a character
			s = s[:len(s)-1]
		}
	}
	return values.Replace(strings.ToValidUTF8(s, "\ufffd"))
}

func escapeHelp(s string) string { return helps.Replace(strings.ToValidUTF8(s, "\ufffd")) }
