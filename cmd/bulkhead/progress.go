package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// bar shows how far something is whose size is known: on a terminal in one line that is
// written over and over, otherwise in one line at the end.
type bar struct {
	w       io.Writer
	width   int // of the terminal in characters; 0: there is none
	what    string
	total   int64 // bytes
	now     func() time.Time
	started time.Time
	shown   time.Time
}

// newBar returns a bar for total bytes of what.
func (a *app) newBar(what string, total int64) *bar {
	return &bar{w: a.err, width: a.width, what: what, total: total, now: a.now, started: a.now()}
}

// redraw is how often the line is written: often enough to seem alive.
const redraw = 200 * time.Millisecond

// set shows that done bytes are done.
func (b *bar) set(done int64) {
	now := b.now()
	if b.width == 0 || now.Sub(b.shown) < redraw && done < b.total {
		return
	}
	b.shown = now
	fmt.Fprintf(b.w, "\r\x1b[K%s", b.line(done, now.Sub(b.started)))
}

// end finishes the line. Without a terminal it is the only one.
func (b *bar) end(done int64) {
	if b.width > 0 {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
	if done == b.total {
		fmt.Fprintf(b.w, "%s: %s in %s\n", b.what, megabytes(b.total), b.now().Sub(b.started).Round(100*time.Millisecond))
	}
}

func (b *bar) line(done int64, elapsed time.Duration) string {
	percent := 100
	if b.total > 0 {
		percent = int(100 * done / b.total)
	}
	tail := fmt.Sprintf(" %3d %%  %s of %s", percent, megabytes(done), megabytes(b.total))
	if speed := float64(done) / elapsed.Seconds(); done > 0 && elapsed > time.Second {
		left := time.Duration(float64(b.total-done) / speed * float64(time.Second))
		tail += fmt.Sprintf("  %s/s, %s left", megabytes(int64(speed)), left.Round(time.Second))
	}
	const least, most = 10, 40
	room := min(most, b.width-len(b.what)-len(tail)-4)
	if room < least {
		return b.what + tail
	}
	full := room * percent / 100
	return fmt.Sprintf("%s [%s%s]%s", b.what, strings.Repeat("#", full), strings.Repeat(".", room-full), tail)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
