package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table is rows under a header. Colours in cells do not count as width.
type table struct {
	header []string
	rows   [][]string
	below  []string // a line under each row; nil: none
}

// whole are the columns whose values are never broken, because people copy them.
var whole = []string{"NUMBER", "TIME", "KIND", "ADDRESS", "MAC", "SUBNET", "GATEWAY", "LEFT", "LEASE", "UNTIL", "PACKETS", "BYTES", "DEVICES", "LEASES"}

// gap is what stands between two columns, in characters.
const gap = 2

// print prints the first of some tables that fits the terminal. If none does, it
// breaks the values of the last one.
func (a *app) print(tables ...table) error {
	for _, t := range tables {
		widths := t.widths()
		if a.width == 0 || total(widths) <= a.width {
			return t.write(a.out, widths, a.width)
		}
	}
	t := tables[len(tables)-1]
	return t.write(a.out, t.shrink(a.width), a.width)
}

func (t table) widths() []int {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	return widths
}

func total(widths []int) int {
	sum := -gap
	for _, w := range widths {
		sum += w + gap
	}
	return sum
}

// shrink takes characters from the widest columns until the table fits: first as far
// as words stay in one piece, then further.
func (t table) shrink(width int) []int {
	const narrowest = 6
	widths := t.widths()
	for _, words := range []bool{true, false} {
		least := t.least(words, narrowest)
		for total(widths) > width {
			widest := -1
			for i, w := range widths {
				if w > least[i] && (widest < 0 || w > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
		}
	}
	return widths
}

// least is how narrow the columns may become.
func (t table) least(words bool, narrowest int) []int {
	natural := t.widths()
	least := make([]int, len(natural))
	for i, title := range t.header {
		if slices.Contains(whole, title) {
			least[i] = natural[i]
			continue
		}
		least[i] = min(natural[i], max(narrowest, len(title)))
		for _, row := range t.rows {
			for _, word := range pieces(row[i]) {
				if words {
					least[i] = max(least[i], width(strings.TrimRight(word, " ")))
				}
			}
		}
	}
	return least
}

func (t table) write(w io.Writer, widths []int, limit int) error {
	var b strings.Builder
	for n, row := range append([][]string{t.header}, t.rows...) {
		cells, height := make([][]string, len(row)), 0
		for i, cell := range row {
			cells[i] = wrap(cell, widths[i])
			height = max(height, len(cells[i]))
		}
		for k := range height {
			line := ""
			for i := range cells {
				text := ""
				if k < len(cells[i]) {
					text = cells[i][k]
				}
				line += text + strings.Repeat(" ", widths[i]-min(widths[i], width(text))+gap)
			}
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
		if n > 0 && t.below != nil && t.below[n-1] != "" {
			for _, line := range wrap(t.below[n-1], max(limit, 20)-gap) {
				b.WriteString(strings.Repeat(" ", gap) + line + "\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks a text into lines of at most w characters: behind spaces and commas,
// and where a word is longer than a line, inside it.
func wrap(text string, w int) []string {
	lines := []string{""}
	for _, p := range pieces(text) {
		last := &lines[len(lines)-1]
		if *last != "" && width(*last)+width(strings.TrimRight(p, " ")) > w {
			*last = strings.TrimRight(*last, " ")
			lines = append(lines, "")
			last = &lines[len(lines)-1]
		}
		for w > 0 && width(strings.TrimRight(p, " ")) > w && !strings.Contains(p, "\x1b") {
			cut := len(string([]rune(p)[:w]))
			*last, p = p[:cut], p[cut:]
			lines = append(lines, "")
			last = &lines[len(lines)-1]
		}
		*last += p
	}
	return lines
}

// pieces cuts a text behind each space and comma.
func pieces(text string) []string {
	var out []string
	for text != "" {
		end := strings.IndexAny(text, " ,") + 1
		if end == 0 {
			end = len(text)
		}
		out = append(out, text[:end])
		text = text[end:]
	}
	return out
}

// width is how many columns of a terminal a text takes: its characters, without the
// escapes that paint makes.
func width(s string) int {
	n := utf8.RuneCountInString(s)
	for {
		_, rest, found := strings.Cut(s, "\x1b[")
		if !found {
			return n
		}
		code, after, _ := strings.Cut(rest, "m")
		n -= len("\x1b[m") + len(code)
		s = after
	}
}

// list joins the names of a cell; it may be broken behind each comma.
func list(names []string) string { return strings.Join(names, ",") }

// below joins what stands under a row.
func below(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// prefixed says a word before a value that is there.
func prefixed(word, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%s %s", word, value)
}
