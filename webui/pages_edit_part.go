//go:build linux

package webui

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"bulkhead/netcfg/api"
)

// A file that is larger than maxWhole is edited a part at a time, of about partSize, so
// that the page is small whatever the file is. Both are in bytes.
const (
	maxWhole = 48 << 10
	partSize = 16 << 10
)

// Bounds of what is told of a large file besides a part.
const (
	maxSections = 40
	maxFound    = 50
)

// editPart is the lines of a text that are in the editor.
type editPart struct {
	From, Lines, Total int // Lines of Total, the first of which is number From
	Text               string
}

// To is the number of the last line.
func (p *editPart) To() int { return p.From + p.Lines - 1 }

// section is a key of a file at the beginning of a line, and what it holds.
type section struct {
	Key         string
	Line, Lines int
}

// cut makes the editor show a part of a text that is large: around a line that somebody
// asked for, or that something is wrong with; else from a line on.
func (e *editView) cut(from int) {
	if len(e.Text) <= maxWhole {
		return
	}
	lines := strings.SplitAfter(e.Text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if focus := e.Focus(); focus > 0 {
		from = before(lines, min(focus, len(lines)), partSize/2)
	}
	p := &editPart{From: min(max(from, 1), len(lines)), Total: len(lines)}
	size := 0
	for _, l := range lines[p.From-1:] {
		if size += len(l); size > partSize && p.Lines > 0 {
			break
		}
		p.Lines++
	}
	p.Text = strings.Join(lines[p.From-1:p.To()], "")
	e.Part = p
	if sumOf([]byte(e.Text)) != e.Sum {
		e.Packed = pack([]byte(e.Text)) // which is nowhere else
	}
	e.Sections = sectionsOf(lines)
}

// before returns the first of the lines before one that have size bytes at most.
func before(lines []string, line, size int) int {
	for line > 1 {
		if size -= len(lines[line-2]); size < 0 {
			break
		}
		line--
	}
	return line
}

var topKey = regexp.MustCompile(`^([a-z][a-z-]*):`)

func sectionsOf(lines []string) (list []section) {
	for i, l := range lines {
		if m := topKey.FindStringSubmatch(l); m != nil && len(list) < maxSections {
			list = append(list, section{Key: m[1], Line: i + 1})
		}
	}
	for i := range list {
		end := len(lines) + 1
		if i+1 < len(list) {
			end = list[i+1].Line
		}
		list[i].Lines = end - list[i].Line
	}
	return list
}

// find lists the lines that have all words of a search.
func (e *editView) find(query string) {
	e.Query = query
	words := strings.Fields(strings.ToLower(query))
	if len(words) == 0 {
		return
	}
	n := 0
next:
	for line := range strings.Lines(e.Text) {
		n++
		lower := strings.ToLower(line)
		for _, w := range words {
			if !strings.Contains(lower, w) {
				continue next
			}
		}
		if len(e.Found.First) == maxFound {
			e.Found.More++
			continue
		}
		e.Found.First = append(e.Found.First, textLine{Number: n, Text: strings.TrimSpace(line)})
	}
}

// textIn is the whole text that a form of the editor carries, and from which line on it was
// shown: 0 if that was all of it.
func (v *visit) textIn(form url.Values, newest *api.Entry) (text []byte, from int, err error) {
	if !form.Has("from") {
		text, err = fileIn(form)
		return text, 0, err
	}
	whole, err := v.wholeOf(form, newest)
	if err != nil {
		return nil, 0, err
	}
	p, lines := partIn(form), strings.SplitAfter(string(whole), "\n")
	if p == nil || p.From < 1 || p.Lines < 0 || p.From-1 > len(lines) || p.Lines > len(lines)-(p.From-1) {
		return nil, 0, fmt.Errorf("%w: the file has no such lines", errForm)
	}
	typed, rest := p.Text, strings.Join(lines[p.To():], "")
	if rest != "" && typed != "" && !strings.HasSuffix(typed, "\n") {
		typed += "\n" // or the next line would be none
	}
	return []byte(strings.Join(lines[:p.From-1], "") + typed + rest), p.From, nil
}

// partIn is the part that a form carries, or nil.
func partIn(form url.Values) *editPart {
	from, err1 := strconv.Atoi(form.Get("from"))
	count, err2 := strconv.Atoi(form.Get("lines"))
	total, err3 := strconv.Atoi(form.Get("total"))
	if errors.Join(err1, err2, err3) != nil {
		return nil
	}
	return &editPart{From: from, Lines: count, Total: total, Text: strings.ReplaceAll(form.Get("file"), "\r\n", "\n")}
}

// errNoWhole says that nobody knows any more what a part is of.
var errNoWhole = errors.New("the file that this is a part of is in the history no more: take your lines to the one that is in force")

// wholeOf is the text that a part is of: it came with the part, or is in the history.
func (v *visit) wholeOf(form url.Values, newest *api.Entry) ([]byte, error) {
	if form.Get("data") != "" {
		return fileIn(form)
	}
	if sumOf(newest.Data) == form.Get("sum") {
		return newest.Data, nil
	}
	number, err := strconv.Atoi(form.Get("of"))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not say what it is of", errForm)
	}
	e, err := v.box().Entry(v.Context(), number)
	switch {
	case errors.Is(err, api.ErrUnknown) || err == nil && sumOf(e.Data) != form.Get("sum"):
		return nil, api.Tell(api.ErrInvalid, errNoWhole)
	case err != nil:
		return nil, err
	}
	return e.Data, nil
}

// moved returns where the part before or behind the one in a form begins, in the text that
// the form makes of it.
func moved(form url.Values, text []byte, from int) int {
	if form.Get("then") == "earlier" {
		return before(strings.SplitAfter(string(text), "\n"), from, partSize)
	}
	typed := form.Get("file")
	if typed != "" && !strings.HasSuffix(typed, "\n") {
		typed += "\n"
	}
	return from + strings.Count(typed, "\n")
}

// changeForm reads a form that carries a file, typed or uploaded.
func (v *visit) changeForm() (url.Values, error) {
	if kind, _, _ := mime.ParseMediaType(v.Header.Get("Content-Type")); kind != "multipart/form-data" {
		return v.form(maxChangeForm)
	}
	v.Body = http.MaxBytesReader(v.w, v.Body, maxChangeForm)
	r, err := v.MultipartReader()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	form := url.Values{}
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return form, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForm, err)
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForm, err)
		}
		if p.FormName() == "file" && len(data) == 0 {
			continue // none was chosen
		}
		form.Set(p.FormName(), string(bytes.TrimPrefix(data, []byte("\ufeff"))))
	}
}
