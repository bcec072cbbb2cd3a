package kernel

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// compiled matches the lines by which make says that it makes an object.
var compiled = regexp.MustCompile(`^  (CC|AS) +(\S+)`)

// progress is how far a build is.
type progress struct {
	done, total int    // objects; total is an estimate
	last        string // line of make that said something
}

// see takes note of a line of make's.
func (p *progress) see(line string) {
	if compiled.MatchString(line) {
		p.done++
	}
	if strings.HasPrefix(line, "  ") {
		p.last = strings.Join(strings.Fields(line), " ")
	}
}

// estimate says how much longer it takes, from how long it took so far. It is about
// objects only; linking and packing add about a tenth.
func (p *progress) estimate(elapsed time.Duration) string {
	switch {
	case p.done == 0:
		return "preparing"
	case p.done >= p.total:
		return fmt.Sprintf("compiled %d objects, linking and packing", p.done)
	case p.done < 20: // too early to tell
		return fmt.Sprintf("compiled %d of about %d objects", p.done, p.total)
	}
	left := elapsed * time.Duration(p.total-p.done) / time.Duration(p.done) * 11 / 10
	s := fmt.Sprintf("compiled %d of about %d objects (%d %%), about ", p.done, p.total, 100*p.done/p.total)
	if left < 90*time.Second {
		return s + fmt.Sprintf("%d s left", int(left.Round(10*time.Second).Seconds())+10)
	}
	return s + fmt.Sprintf("%d min left", int(left.Round(time.Minute).Minutes()))
}

// reporter shows progress: on a terminal in one line that is written over and over,
// otherwise in a line now and then.
type reporter struct {
	w        io.Writer
	terminal bool
	shown    time.Time
}

func (r *reporter) show(now time.Time, text string) {
	every := 30 * time.Second
	if r.terminal {
		every = 500 * time.Millisecond
	}
	if now.Sub(r.shown) < every {
		return
	}
	r.shown = now
	if r.terminal {
		fmt.Fprintf(r.w, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(r.w, text)
	}
}

// end makes room for other lines.
func (r *reporter) end() {
	if r.terminal && !r.shown.IsZero() {
		fmt.Fprint(r.w, "\r\x1b[K")
	}
}
