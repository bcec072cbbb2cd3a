// Package edit changes the text of a configuration file as a person with an editor would:
// what an edit is not about, comments, order, quotes and spaces included, stays as it is,
// byte for byte.
//
// Values may come from anybody: they are quoted so that the file says what was typed and
// nothing else. Each edit is checked twice. What the file says afterwards must be what it
// said before, but for what the edit is about; and package conf must take it.
//
// Comments on lines of their own stay when what stands below them is removed, as nobody can
// tell what they are about; those inside of what is removed, and at the ends of its lines, go
// with it.
package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
)

// Edit is one change of a file. The functions of this package make them.
type Edit struct {
	steps []step
	means func([]leaf) []leaf // what a file says afterwards, of what it said before
}

// step changes a text in one go. Further steps see the text that it leaves.
type step func(*doc) ([]splice, error)

// Refused is the error of an edit that leaves a file that cannot be used. The keys of the
// problems say which value is at fault: allow.films.from.
type Refused struct{ Problems diag.List }

func (r *Refused) Error() string { return r.Problems.Err().Error() }

// Apply makes edits, one after the other, of a file that can be used, and returns the new
// text. The error is a [Refused] if the values are at fault.
func Apply(file []byte, edits ...Edit) ([]byte, error) {
	if _, problems := conf.ParseConfirmed("", file, time.Time{}); problems.Err() != nil {
		return nil, fmt.Errorf("the file has mistakes of its own, which come first: %w", problems.Err())
	}
	before, err := read(file)
	if err != nil {
		return nil, err
	}
	d, want := before, before.leaves()
	for _, e := range edits {
		want = e.means(want)
		for _, s := range e.steps {
			if d, err = d.take(s); err != nil {
				return nil, err
			}
		}
	}
	out := []byte(d.text)
	if _, problems := conf.Parse("", out, time.Time{}); problems.Err() != nil {
		return nil, &Refused{problems}
	}
	if got := d.leaves(); !same(got, want) {
		return nil, errStrange
	}
	return out, nil
}

// errStrange is the error where the text is written in a way that edits do not know. The
// file is as it was.
var errStrange = errors.New("the file is written in a way that cannot be edited by a form: edit its text")

// doc is a text, and where in it things stand.
type doc struct {
	text string
	eol  string
	root *conf.Node
}

func read(file []byte) (*doc, error) {
	root, err := conf.Outline("", file)
	if err != nil {
		return nil, err
	}
	d := &doc{text: string(file), eol: "\n", root: root}
	if strings.Contains(d.text, "\r\n") {
		d.eol = "\r\n"
	}
	return d, nil
}

// take makes the changes of a step.
func (d *doc) take(s step) (*doc, error) {
	list, err := s(d)
	if err != nil || len(list) == 0 {
		return d, err
	}
	slices.SortStableFunc(list, func(a, b splice) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, s := range list {
		if s.from < at || s.to < s.from {
			return nil, errStrange
		}
		b.WriteString(d.text[at:s.from])
		b.WriteString(s.text)
		at = s.to
	}
	b.WriteString(d.text[at:])
	next, err := read([]byte(b.String()))
	if err != nil {
		// What the values do to the text is caught before; what is left is a text that
		// is written in a way that nobody thought of.
		return nil, fmt.Errorf("%w (%w)", errStrange, err)
	}
	return next, nil
}

// splice puts a text in the place of some bytes.
type splice struct {
	from, to int
	text     string
}

// lineStart is where the line begins that byte i is in.
func (d *doc) lineStart(i int) int { return strings.LastIndexByte(d.text[:i], '\n') + 1 }

// nextLine is where the line begins after the one that byte i is in.
func (d *doc) nextLine(i int) int {
	if end := strings.IndexByte(d.text[i:], '\n'); end >= 0 {
		return i + end + 1
	}
	return len(d.text)
}

// line returns the line that begins at byte i, without its end.
func (d *doc) line(i int) string { return strings.TrimRight(d.text[i:d.nextLine(i)], "\r\n") }

// column is how many bytes of its line stand before byte i.
func (d *doc) column(i int) int { return i - d.lineStart(i) }

// insertLines puts lines where a line begins, or behind the last.
func (d *doc) insertLines(at int, lines ...string) splice {
	text := strings.Join(lines, d.eol) + d.eol
	if at == len(d.text) && !strings.HasSuffix(d.text, "\n") {
		text = d.eol + strings.TrimSuffix(text, d.eol)
	}
	return splice{at, at, text}
}

// removeLines takes whole lines out, and one of two blank lines that meet then.
func (d *doc) removeLines(from, to int) splice {
	from, to = d.lineStart(from), d.nextLine(to)
	blank := func(i int) bool { return i < len(d.text) && strings.TrimSpace(d.line(i)) == "" }
	if before := d.lineStart(max(from-1, 0)); from > 0 && blank(before) && (to == len(d.text) || blank(to)) {
		from = before
	}
	if to == len(d.text) && !strings.HasSuffix(d.text, "\n") && from > 0 {
		from = strings.LastIndexByte(d.text[:from], '\n')
		from -= len(d.text[:from]) - len(strings.TrimSuffix(d.text[:from], "\r"))
	}
	return splice{from, to, ""}
}

// below is where the line begins after byte i, and after comments that stand right below
// it and are indented by at least indent: they belong to what stands there.
func (d *doc) below(i, indent int) int {
	at := d.nextLine(i)
	for at < len(d.text) {
		l := d.line(at)
		t := strings.TrimLeft(l, " \t")
		if !strings.HasPrefix(t, "#") || len(l)-len(t) < indent {
			break
		}
		at = d.nextLine(at)
	}
	return at
}
