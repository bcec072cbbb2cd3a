package console

import (
	"strings"
	"unicode/utf8"
)

// ascii spells what our own messages use beyond ASCII. What a serial terminal makes
// of other characters nobody knows.
var ascii = strings.NewReplacer("→", "->", "–", "-", "—", "-", "…", "...", "“", `"`, "”", `"`, "’", "'", "·", "-",
	"ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "ß", "ss", "\n", " ", "\t", " ")

// printable returns what of s any terminal shows as it is meant, and nothing that
// one would obey: names and errors come from elsewhere. It is at most a screen long.
func printable(s string) string {
	const longest = 2000
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, ascii.Replace(s))
}

// wrap breaks a text into lines of at most width characters: at spaces, and where a
// word is longer than a line, behind its last colon or dash that fits, or anywhere.
func wrap(text string, width int) []string {
	width = max(width, 1)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " " + word
			continue
		}
		for len(word) > width {
			cut := strings.LastIndexAny(word[:width], ":-") + 1
			if cut == 0 {
				cut = width
			}
			lines, word = append(lines, word[:cut]), word[cut:]
		}
		line = word
	}
	return append(lines, line)
}

// text collects the lines of a page that is width characters wide.
type text struct {
	width int
	lines []string
}

// indent is how far the values of fields stand from the left edge.
const indent = 14

// field adds a name and its value, which goes on below itself.
func (t *text) field(name, value string) {
	for _, line := range wrap(printable(value), t.width-indent-1) {
		t.lines = append(t.lines, " "+pad(name, indent-1)+line)
		name = ""
	}
}

// para adds words as they are, broken into lines.
func (t *text) para(words string) {
	for _, line := range wrap(printable(words), t.width-2) {
		t.lines = append(t.lines, " "+line)
	}
}

// verbatim adds a line that people copy: it stands out and is not broken.
func (t *text) verbatim(line string) {
	t.lines = append(t.lines, cut("     "+printable(line), t.width))
}

// gap adds an empty line.
func (t *text) gap() { t.lines = append(t.lines, "") }

func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-len(s))) }

func cut(s string, width int) string { return s[:min(len(s), max(width, 0))] }
