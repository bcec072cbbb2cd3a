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
	File   string // configuration of the lab whose memory is measured
	Bin    string // directory of the daemons' programs
	Image  string // disk image whose start is measured
	Rounds int    // of each measurement; the median counts
	W      io.Writer
}

// Run measures everything and prints a table for each subject. It takes about three
// minutes with 15 rounds.
func Run(ctx context.Context, w *lab.World, o Options) error {
	for _, part := range []func(context.Context, *lab.World, Options) error{scale, packets, memory, boot} {
		if err := part(ctx, w, o); err != nil {
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
