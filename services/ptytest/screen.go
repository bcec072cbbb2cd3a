//go:build linux

package ptytest

import (
	"strings"
	"unicode/utf8"
)

// Screen is what a person sees of what is written to a terminal that is wide and high
// enough for all of it. It knows what our programs write, ECMA-48 and the VT100's: line
// feed, return, erase to the end of the line, and saving the cursor; it shows no
// colours.
type Screen struct {
	lines    [][]rune
	row, col int
	kept     [2]int // where the cursor was when it was saved
	rest     []byte // of a sequence that is not complete
}

// Write shows text. It never fails.
func (s *Screen) Write(text []byte) {
	s.rest = append(s.rest, text...)
	for len(s.rest) > 0 {
		n := s.take(s.rest)
		if n == 0 {
			return
		}
		s.rest = s.rest[n:]
	}
}

// take shows the first character or sequence of text, and returns its length; 0 if more
// must come.
func (s *Screen) take(text []byte) int {
	switch c := text[0]; {
	case c == '\n':
		s.row++
	case c == '\r':
		s.col = 0
	case c == '\b':
		s.col = max(s.col-1, 0)
	case c == 0x1b:
		return s.escape(text)
	case c >= ' ':
		if !utf8.FullRune(text) {
			return 0
		}
		r, n := utf8.DecodeRune(text)
		s.put(r)
		return n
	}
	return 1
}

func (s *Screen) escape(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '7':
		s.kept = [2]int{s.row, s.col}
	case '8':
		s.row, s.col = s.kept[0], s.kept[1]
	case '[':
		end := strings.IndexFunc(string(text[2:]), func(r rune) bool { return r >= '@' && r <= '~' })
		if end < 0 {
			return 0
		}
		if text[2+end] == 'K' && s.row < len(s.lines) && s.col < len(s.lines[s.row]) {
			s.lines[s.row] = s.lines[s.row][:s.col]
		}
		return 3 + end
	}
	return 2
}

func (s *Screen) put(r rune) {
	for s.row >= len(s.lines) {
		s.lines = append(s.lines, nil)
	}
	line := s.lines[s.row]
	for s.col >= len(line) {
		line = append(line, ' ')
	}
	line[s.col] = r
	s.lines[s.row] = line
	s.col++
}

// Lines returns what is shown, without spaces at the ends of lines.
func (s *Screen) Lines() []string {
	lines := make([]string, len(s.lines))
	for i, l := range s.lines {
		lines[i] = strings.TrimRight(string(l), " ")
	}
	return lines
}
