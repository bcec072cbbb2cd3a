package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// bar shows how far something is whose size is known: on a terminal in one line that is
// written over and over, otherwise in a line now and then.
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
	return &bar{w: a.err, width: a.width, what: what, total: total, now: a.now, started: a.now(), shown: a.now()}
}

// How often a line is written: on a terminal often enough to seem alive, elsewhere
// seldom enough for a log.
const (
	redraw = 200 * time.Millisecond
	report = 10 * time.Second
)

// set shows that done bytes are done.
func (b *bar) set(done int64) {
	now := b.now()
	switch since := now.Sub(b.shown); {
	case b.width > 0 && (since >= redraw || done == b.total):
		fmt.Fprintf(b.w, "\r\x1b[K%s", b.line(done, now.Sub(b.started)))
	case b.width == 0 && since >= report && done < b.total:
		fmt.Fprintln(b.w, b.line(done, now.Sub(b.started)))
	default:
		return
	}
	b.shown = now
}

// end says in a line how long it took, if all of it is done.
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
