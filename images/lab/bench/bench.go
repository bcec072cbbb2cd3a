//go:build linux

package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bulkhead/images/lab"
)

// Options says what is measured.
type Options struct {
	File   string   // configuration of the lab whose memory is measured
	Bin    string   // directory of the daemons' programs
	Image  string   // disk image whose start is measured
	Rounds int      // of each measurement; the median counts
	Only   []string // parts to measure, of [Parts]; none: all
	W      io.Writer
}

// part is a subject that is measured.
type part struct {
	name    string
	measure func(context.Context, *lab.World, Options) error
}

var parts = []part{{"scale", scale}, {"packets", packets}, {"flows", flows}, {"memory", memory}, {"boot", boot}}

// Parts returns the names of what can be measured.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Run measures everything, or the parts asked for, and prints a table for each subject.
// It takes about five minutes with 15 rounds. An unknown part is an error before
// anything is measured.
func Run(ctx context.Context, w *lab.World, o Options) error {
	for _, name := range o.Only {
		if !slices.Contains(Parts(), name) {
			return fmt.Errorf("no part of the measurement is called %q; there are %s", name, strings.Join(Parts(), ", "))
		}
	}
	for _, p := range parts {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		if err := p.measure(ctx, w, o); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// median of the measured values, which it sorts.
func median[T int64 | float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// table prints rows in columns under a title, numbers to the right.
func table(w io.Writer, title string, rows [][]string) {
	fmt.Fprintf(w, "\n%s\n", title)
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i == 0 || i == len(r)-1 && i > 1 {
				line.WriteString("  " + c + space)
			} else {
				line.WriteString("  " + space + c)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// target says whether a value is within what was asked for.
func target(ok bool, text string) string {
	if ok {
		return "target: " + text
	}
	return "MISSED: " + text
}
