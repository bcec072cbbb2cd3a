//go:build linux

package webui

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// sparkline draws values as a line, the oldest first. The title is what a screen reader
// says: it gives the point of the picture in words. It is "" if there is nothing to draw.
func sparkline(title string, values []uint64) template.HTML {
	top := uint64(0)
	if len(values) > 1 {
		top = slices.Max(values)
	}
	if top == 0 {
		return ""
	}
	var points strings.Builder
	for x, y := range values {
		fmt.Fprintf(&points, " %d,%.0f", x, 19-18*float64(y)/float64(top))
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d 20" preserveAspectRatio="none" role="img"><title>%s</title><polyline points="%s"/></svg>`,
		len(values)-1, template.HTMLEscapeString(title), points.String()[1:]))
}
