// Package textdiff says how two texts differ, line by line, as diff -u does. It is
// pure. It looks for lines that stand exactly once in each text, which people's files
// have many of, and so takes little time and memory whatever it is given; what it
// finds is correct, and short where the texts have such lines.
package textdiff

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// around is how many unchanged lines are shown before and after a change.
const around = 3

// Unified returns the difference in the unified format, and "" if there is none.
func Unified(oldName, newName, old, new string) string {
	return UnifiedUnder(oldName, newName, old, new, func(string) bool { return false })
}

// UnifiedUnder is Unified that says of each place under which heading of the old text it
// is, as diff -F does: heading tells which lines are one.
func UnifiedUnder(oldName, newName, old, new string, heading func(line string) bool) string {
	if old == new {
		return ""
	}
	a, b := lines(old), lines(new)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	at, under := 0, "" // the last heading of a[:at]
	for _, h := range hunks(edits(a, b)) {
		for ; at < h.start(); at++ {
			if heading(a[at]) {
				under = " " + strings.TrimSpace(a[at])
			}
		}
		h.write(&out, a, b, under)
	}
	return out.String()
}

// lines cuts a text into lines that keep their end.
func lines(s string) []string { return slices.Collect(strings.Lines(s)) }

// edit says that lines [a0, a1) of the old text became [b0, b1) of the new one.
type edit struct{ a0, a1, b0, b1 int }

// edits lists what changed, in order.
func edits(a, b []string) []edit {
	var list []edit
	x, y := 0, 0
	change := func(x1, y1 int) {
		if x < x1 || y < y1 {
			list = append(list, edit{x, x1, y, y1})
		}
	}
	for _, m := range anchors(a, b) {
		if m[0] < x || m[1] < y { // inside what an anchor before it was widened to
			continue
		}
		i, j := m[0], m[1]
		for i > x && j > y && a[i-1] == b[j-1] {
			i, j = i-1, j-1
		}
		change(i, j)
		for x, y = i, j; x < len(a) && y < len(b) && a[x] == b[y]; {
			x, y = x+1, y+1
		}
	}
	change(len(a), len(b))
	return list
}

// anchors returns pairs of equal lines, ascending in both texts: the longest run of
// those that are unique in each, between the beginning and the end of both, where
// equal lines are pairs as well.
func anchors(a, b []string) [][2]int {
	var list [][2]int
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	if start > 0 {
		list = append(list, [2]int{0, 0})
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	for _, m := range rising(unique(a[start:len(a)-end], b[start:len(b)-end])) {
		list = append(list, [2]int{m[0] + start, m[1] + start})
	}
	if end > 0 {
		list = append(list, [2]int{len(a) - end, len(b) - end})
	}
	return list
}

// unique pairs the lines that stand once in a and once in b, in the order of a.
func unique(a, b []string) [][2]int {
	type seen struct{ inA, inB, at int }
	count := map[string]*seen{}
	for _, s := range a {
		if count[s] == nil {
			count[s] = new(seen)
		}
		count[s].inA++
	}
	for j, s := range b {
		if c := count[s]; c != nil {
			c.inB++
			c.at = j
		}
	}
	var pairs [][2]int
	for i, s := range a {
		if c := count[s]; c.inA == 1 && c.inB == 1 {
			pairs = append(pairs, [2]int{i, c.at})
		}
	}
	return pairs
}

// rising returns the longest selection of pairs whose second numbers rise: patience
// sorting, each pile remembering the top of the one to its left.
func rising(pairs [][2]int) [][2]int {
	var tops []int // indices into pairs
	left := make([]int, len(pairs))
	for i, p := range pairs {
		k := sort.Search(len(tops), func(k int) bool { return pairs[tops[k]][1] >= p[1] })
		left[i] = -1
		if k > 0 {
			left[i] = tops[k-1]
		}
		if k == len(tops) {
			tops = append(tops, i)
		} else {
			tops[k] = i
		}
	}
	if len(tops) == 0 {
		return nil
	}
	var list [][2]int
	for i := tops[len(tops)-1]; i >= 0; i = left[i] {
		list = append(list, pairs[i])
	}
	slices.Reverse(list)
	return list
}

// hunk is edits that are shown together.
type hunk []edit

func hunks(edits []edit) []hunk {
	var list []hunk
	for _, e := range edits {
		if n := len(list); n > 0 {
			if h := list[n-1]; e.a0-h[len(h)-1].a1 <= 2*around {
				list[n-1] = append(h, e)
				continue
			}
		}
		list = append(list, hunk{e})
	}
	return list
}

// start is the line of the old text with which h begins.
func (h hunk) start() int { return h[0].a0 - min(around, h[0].a0) }

func (h hunk) write(out *strings.Builder, a, b []string, under string) {
	first, last := h[0], h[len(h)-1]
	before, after := first.a0-h.start(), min(around, len(a)-last.a1)
	fmt.Fprintf(out, "@@ -%s +%s @@%s\n", span(first.a0-before, last.a1+after), span(first.b0-before, last.b1+after), under)
	x := h.start()
	for _, e := range h {
		write(out, " ", a[x:e.a0])
		write(out, "-", a[e.a0:e.a1])
		write(out, "+", b[e.b0:e.b1])
		x = e.a1
	}
	write(out, " ", a[x:last.a1+after])
}

// span is lines [from, to) counted from one; no lines are after the one before them.
func span(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func write(out *strings.Builder, sign string, lines []string) {
	for _, l := range lines {
		out.WriteString(sign + l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
