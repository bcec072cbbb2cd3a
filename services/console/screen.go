package console

import (
	"fmt"
	"slices"
	"strings"
)

// draw returns what makes a terminal that shows the lines old show the lines new, in
// what a VT100 understands; old nil: nothing is known of what it shows. The cursor is
// moved, never fed: what the console writes contains no line end, and ESC before each
// line. So a serial line that sends everything back types nothing but Escape.
func draw(old, new []string) string {
	var b strings.Builder
	last := len(new)
	// What lies below the prompt, such as messages of the kernel, is only found out
	// about by drawing everything.
	if old == nil || len(old) != last || !slices.Equal(old[:last-1], new[:last-1]) {
		b.WriteString("\x1b[m\x1b(B\x0f\x1b[r") // no attributes, ASCII, no margins
		for i, line := range new {
			if i == 0 {
				line = "\x1b[7m" + line + "\x1b[m"
			}
			fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", i+1, line)
		}
		b.WriteString("\x1b[J")
	} else if old[last-1] != new[last-1] {
		fmt.Fprintf(&b, "\x1b[%d;1H%s\x1b[K", last, new[last-1])
	}
	return b.String()
}
