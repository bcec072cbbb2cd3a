package console

import "strings"

// maxLine is how many characters an answer may have. The longest that means
// something is the name of a box.
const maxLine = 64

// event is what became of a byte that was typed, or that looks as if it was.
type event int

const (
	nothing event = iota
	edited        // the line is another
	entered       // the line is complete: take it
	escaped       // the way out was asked for
	refresh       // the screen is to be drawn again
)

// line is what is being typed. Its zero value is an empty one.
//
// Terminals send more than what people type, and a line without a terminal sends
// noise: what is no printable character of ASCII and no key known here changes
// nothing, and a line that became too long counts for nothing.
type line struct {
	chars   []byte
	tooLong bool
	escape  int  // how far into the sequence of a cursor or function key; 0: not in one
	cr      bool // the last byte was a carriage return
}

// maxEscape is how long the sequence of a key may be. What goes on longer is none.
const maxEscape = 16

// key takes one byte.
func (l *line) key(b byte) event {
	cr := l.cr
	l.cr = b == '\r'
	if l.escape > 0 {
		if l.sequence(b) {
			return nothing
		}
	}
	switch {
	case b == '\n' && cr: // one key that sends both
		return nothing
	case b == '\r' || b == '\n':
		return entered
	case b == 0x1b:
		l.escape = 1
		return escaped
	case b == 0x03 || b == 0x04: // ^C, ^D
		return escaped
	case b == 0x0c: // ^L
		return refresh
	case b == 0x15: // ^U
		l.clear()
		return edited
	case b == 0x08 || b == 0x7f:
		l.chars = l.chars[:max(0, len(l.chars)-1)]
		return edited
	case b < ' ' || b > '~' || l.tooLong:
		return nothing
	case len(l.chars) == maxLine:
		l.tooLong = true
		return edited
	}
	l.chars = append(l.chars, b)
	return edited
}

// sequence reports whether b belongs to the escape sequence that has begun: ESC O
// and a letter, or ESC [, parameters and a final byte (ECMA-48, 5.4). Linux's own
// screen sends ESC [ [ A for F1.
func (l *line) sequence(b byte) bool {
	at := l.escape
	l.escape = 0
	switch {
	case b < ' ' || b > '~' || at > maxEscape:
		return false
	case at == 1 && (b == '[' || b == 'O'):
		l.escape = 2
		return true
	case at == 1:
		return false // a lone ESC, and then something else
	case b < '@', at == 2 && b == '[':
		l.escape = at + 1
	}
	return true
}

// take returns the line, and starts the next. ok is false for one that is too long.
func (l *line) take() (s string, ok bool) {
	s, ok = strings.TrimSpace(string(l.chars)), !l.tooLong
	l.clear()
	return s, ok
}

func (l *line) clear() { l.chars, l.tooLong = l.chars[:0], false }

func (l *line) String() string {
	if l.tooLong {
		return "(too long: press Enter, and type again)"
	}
	return string(l.chars)
}
