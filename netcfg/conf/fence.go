package conf

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"bulkhead/netcfg/diag"
)

// The bounds of a file. They are far above any real configuration, and low enough
// that a file made to hurt is refused within milliseconds.
const (
	maxBytes   = 1 << 20 // of the file
	maxLine    = 8 << 10 // bytes in a line
	maxDepth   = 16      // of nesting; the language needs 5
	maxEntries = 2048    // of one mapping: the YAML library takes quadratic time over them
	maxEmpty   = 64      // keys without a value: the same
)

// fence walks over a file before the YAML library sees it, and lets through only
// the part of YAML that the language uses, which the library reads in linear time:
// block and flow collections of one-line scalars. Anchors, aliases, tags, merge keys,
// block text, directives and further documents have no use here, and some of them
// take the library hours or make a small file large.
//
// A mistake it finds costs one entry (one device, one rule): the rest of the file is
// still read, so that one slip of the keyboard does not hide the others.
type fence struct {
	file  string
	lines []string // without line ends
	ps    *problems

	stack   []level // open block collections, outermost first
	flow    []open  // open flow collections
	pending bool    // the last line ended in a key or dash without a value
	flowCol int     // indentation of the line on which the outermost flow began
	skip    bool    // in an entry that is broken
	noted   []int   // lines on which a comment stands where the value of a key should
	empty   int     // keys without a value so far

	line     int   // the current one, from 0
	previous int   // the section before the current one
	section  int   // line on which the current top-level key stands; -1: none yet
	entry    int   // line on which the current entry of it began; -1: none yet
	entryCol int   // indentation of the section's entries
	secOf    []int // section and entry of each line
	entOf    []int
	bad      []bool
	before   []int // sections before a line that broke off where a section should begin
	tabs     []int // lines with a tab where none may be
	tabCol   int   // column of the first
	fatal    bool
}

// level is one open block collection.
type level struct {
	col     int
	list    bool
	entries int
}

// open is one open flow collection.
type open struct {
	line, col int // of the bracket; col in bytes
	mapping   bool
	entries   int
	have      part   // what the current entry consists of so far
	from      [2]int // line and column where it began
}

// part is how much of a flow entry has been seen.
type part uint8

const (
	nothing part = iota
	single       // a scalar or collection, perhaps a key
	colon        // key and colon
	pair         // key, colon and value
)

// text checks the bytes of a file and splits them into lines. It returns nil if the
// bytes cannot be read as text at all.
func text(file string, data []byte, ps *problems) []string {
	top := diag.Pos{File: file, Line: 1, Col: 1}
	if len(data) > maxBytes { // how large it is nobody knows: callers stop reading somewhere
		ps.add(top, "", "file is larger than 1 MiB, the limit",
			"check that this is the right file; prefixes and groups make a long list of rules short")
		return nil
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		ps.add(top, "", "file is UTF-16 text", "save it as UTF-8")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors mark UTF-8 so
	lines := strings.Split(string(data), "\n")
	for i, l := range lines {
		l = strings.TrimSuffix(l, "\r")
		if at := strange(l); at >= 0 {
			pos := diag.Pos{File: file, Line: i + 1, Col: utf8.RuneCountInString(l[:at]) + 1}
			if r, n := utf8.DecodeRuneInString(l[at:]); r == utf8.RuneError && n == 1 {
				ps.add(pos, "", fmt.Sprintf("byte 0x%02x is not UTF-8 text", l[at]), "save the file as UTF-8; if it is not a text file, it is not a configuration")
			} else {
				ps.add(pos, "", fmt.Sprintf("control character %U", r), "delete it; if this is not a text file, it is not a configuration")
			}
			return nil
		}
		if len(l) > maxLine {
			ps.add(diag.Pos{File: file, Line: i + 1, Col: 1}, "", fmt.Sprintf("line has %d bytes; the limit is %d", len(l), maxLine),
				"break it: a list may go on in the next line, indented")
			return nil
		}
		lines[i] = strings.TrimRight(l, " \t")
	}
	return lines
}

// strange returns the index of the first byte that no text holds, or -1.
func strange(l string) int {
	for i, r := range l {
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(l[i:]); n == 1 {
				return i
			}
		case r < ' ' && r != '\t', 0x7f <= r && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r == 0xfffe, r == 0xffff:
			return i
		}
	}
	return -1
}

// newFence walks over the lines.
func newFence(file string, lines []string, ps *problems) *fence {
	f := &fence{
		file: file, lines: lines, ps: ps, previous: -1, section: -1, entry: -1, entryCol: -1,
		secOf: make([]int, len(lines)), entOf: make([]int, len(lines)), bad: make([]bool, len(lines)),
	}
	if f.fatal = f.conflict() || f.braces(); f.fatal {
		return f
	}
	for i, l := range lines {
		f.line = i
		f.scan(l)
		f.secOf[i], f.entOf[i] = f.section, f.entry
		if f.fatal {
			return f
		}
	}
	f.unclosed()
	if len(f.tabs) > 0 {
		pos := diag.Pos{File: file, Line: f.tabs[0] + 1, Col: f.tabCol}
		msg := "tab character"
		if n := len(f.tabs) - 1; n > 0 {
			msg += fmt.Sprintf(" (%d more lines have one)", n)
		}
		ps.add(pos, "", msg, "use spaces, two for each level; YAML forbids tabs")
	}
	return f
}

// conflict reports what git(1) leaves in a file that it could not merge. As it says
// most things twice, nothing else is worth telling about such a file.
func (f *fence) conflict() bool {
	first, last, more := -1, -1, 0
	for i, l := range f.lines {
		begins := l == "<<<<<<<" || strings.HasPrefix(l, "<<<<<<< ")
		switch {
		case begins && first < 0:
			first = i
		case begins:
			more++
		case first >= 0 && last < 0 && (l == ">>>>>>>" || strings.HasPrefix(l, ">>>>>>> ")):
			last = i
		}
	}
	if first < 0 {
		return false
	}
	msg := "unresolved merge conflict from here on"
	if last >= 0 {
		msg = fmt.Sprintf("unresolved merge conflict from line %d to %d", first+1, last+1)
	}
	if more > 0 {
		msg += fmt.Sprintf(" (%d more in the file)", more)
	}
	f.ps.add(diag.Pos{File: f.file, Line: first + 1, Col: 1}, "", msg,
		"decide what of the two sides is to stay, and delete the lines that begin with <<<<<<<, ======= and >>>>>>>")
	return true
}

// braces reports a file that is one flow collection, as JSON is. It would be good
// YAML, but one mistake in it would cost the whole file.
func (f *fence) braces() bool {
	for i, l := range f.lines {
		at := strings.IndexFunc(l, func(r rune) bool { return r != ' ' && r != '\t' })
		if at < 0 || l[at] == '#' || strings.HasPrefix(l, "---") {
			continue
		}
		if l[at] != '{' && l[at] != '[' {
			return false
		}
		f.ps.add(diag.Pos{File: f.file, Line: i + 1, Col: at + 1}, "", fmt.Sprintf("the file begins with %q: this looks like JSON", l[at:at+1]),
			"write top-level keys on lines of their own, without braces around them all: ports:, zones:, allow:")
		return true
	}
	return false
}

// problem reports what is wrong at byte i of the current line, and gives up the
// entry that the line belongs to.
func (f *fence) problem(i int, msg, hint string) {
	f.problemAt(f.line, i, msg, hint)
}

func (f *fence) problemAt(line, i int, msg, hint string) {
	f.ps.add(diag.Pos{File: f.file, Line: line + 1, Col: utf8.RuneCountInString(f.lines[line][:i]) + 1}, "", msg, hint)
	f.giveUp()
	if line < f.line {
		f.bad[line] = true
	}
}

func (f *fence) giveUp() {
	f.bad[f.line] = true
	f.flow, f.pending, f.skip = f.flow[:0], true, true
}

func (f *fence) stop(i int, msg, hint string) {
	f.problem(i, msg, hint)
	f.fatal = true
}

func (f *fence) scan(l string) {
	i := len(l) - len(strings.TrimLeft(l, " "))
	if i == len(l) || l[i] == '#' {
		return
	}
	if l[i] == '\t' {
		if strings.HasPrefix(strings.TrimLeft(l, " \t"), "#") {
			return
		}
		f.tab(i)
		return
	}
	if len(f.flow) > 0 {
		// Text that stands no deeper than the line of the bracket is not in it,
		// whatever the library thinks: the bracket was forgotten.
		if i > f.flowCol || l[i] == ']' || l[i] == '}' {
			f.scanFlow(l, i)
			return
		}
		f.unclosed()
	}
	f.scanBlock(l, i)
}

// tab notes a tab at byte i of the current line.
func (f *fence) tab(i int) {
	if len(f.tabs) == 0 {
		f.tabCol = utf8.RuneCountInString(f.lines[f.line][:i]) + 1
	}
	f.tabs = append(f.tabs, f.line)
	f.giveUp()
}

// unclosed reports a bracket that is open where it can no longer be closed.
func (f *fence) unclosed() {
	if len(f.flow) == 0 {
		return
	}
	o := f.flow[len(f.flow)-1]
	want := "]"
	if o.mapping {
		want = "}"
	}
	was := f.bad[f.line]
	f.problemAt(o.line, o.col, fmt.Sprintf("%q is never closed", f.lines[o.line][o.col:o.col+1]), fmt.Sprintf("add the missing %q", want))
	f.bad[f.line] = was || o.line == f.line
}

// scanBlock reads a line that stands in no flow collection; i is its indentation.
func (f *fence) scanBlock(l string, i int) {
	if i == 0 && !f.outside(l) {
		return
	}
	if f.skip && !f.resume(l, i) {
		f.bad[f.line] = true
		return
	}
	f.skip = false
	for first := true; ; first = false {
		list := l[i] == '-' && (i+1 == len(l) || l[i+1] == ' ')
		end, isKey := i, false
		if !list {
			var ok bool
			if end, ok = f.scalar(l, i, false); !ok {
				if first && !isWide(l[i:]) { // that only looks like indentation
					f.locate(l, i)
				}
				return
			}
			isKey = colonAfter(l, end) >= 0
		}
		if !list && !isKey {
			f.bare(l, i, end, first)
			return
		}
		if !f.begin(l, i, list, first) {
			return
		}
		if l[i:end] == "<<" {
			f.problem(i, "merge keys are not used in this language", "write the values out; groups name what several rules share")
			return
		}
		f.pending = true
		if list {
			i++
		} else {
			i = colonAfter(l, end) + 1
		}
		i = spaces(l, i)
		if i < len(l) && l[i] == '#' && !list {
			f.noted = append(f.noted, f.line+1)
		}
		if i == len(l) || l[i] == '#' {
			return
		}
		if l[i] == '\t' {
			f.tab(i)
			return
		}
		if !list {
			f.value(l, i)
			return
		}
		if strings.IndexByte("[{", l[i]) >= 0 {
			f.value(l, i)
			return
		}
	}
}

// outside refuses what stands around documents. It reports whether the line is left
// to be read.
func (f *fence) outside(l string) bool {
	switch {
	case strings.HasPrefix(l, "---") && (len(l) == 3 || l[3] == ' '):
		if f.section < 0 && (len(l) == 3 || strings.HasPrefix(strings.TrimLeft(l[3:], " "), "#")) {
			f.lines[f.line] = ""
			return false
		}
		f.stop(0, "a second document begins here", "put everything into one document: remove the line")
	case l == "..." || strings.HasPrefix(l, "... "):
		f.stop(0, "the document ends here", "remove the line: the file is one document")
	case l[0] == '%':
		f.stop(0, "YAML directives are not used in this language", "remove the line")
	default:
		return true
	}
	return false
}

// resume reports whether reading goes on at a line after a mistake: at the next
// entry of the section, or at the next section.
func (f *fence) resume(l string, i int) bool {
	dash := l[i] == '-' && (len(l) == i+1 || l[i+1] == ' ')
	switch {
	case i == 0 && !dash:
		f.stack = f.stack[:0]
	case f.entryCol < 0 || i != f.entryCol || len(f.stack) == 0:
		return false
	case len(f.stack) == 1: // not even the first entry could be read
		f.stack = append(f.stack, level{col: i, list: dash})
	case dash == f.stack[1].list:
		f.stack = f.stack[:2]
	default:
		return false
	}
	f.pending = false
	return true
}

// begin opens or continues the block collection that an entry at byte i belongs to.
func (f *fence) begin(l string, i int, list, first bool) bool {
	popped := false
	for n := len(f.stack); n > 0; n = len(f.stack) {
		top := f.stack[n-1]
		sameCol := top.col == i && top.list && !list // a list at its key's column ends
		if top.col <= i && !sameCol {
			break
		}
		if f.pending && !popped {
			f.emptyValue()
		}
		popped = true
		f.stack = f.stack[:n-1]
	}
	n := len(f.stack)
	switch {
	case n == 0 && i > 0:
		f.newSection(-1)
		f.problem(i, "indented, but nothing stands above it", "start top-level keys in the first column")
		return false
	case n == 0 && list:
		f.problem(i, "a list cannot stand here", "start with a key such as \"zones:\"")
		return false
	case n == 0:
		f.stack = append(f.stack, level{col: i})
	case f.stack[n-1].col < i && popped:
		if n == 1 && i < f.entryCol { // a top-level key, most likely
			f.breakOff(l)
			f.newSection(f.line)
		} else if i <= f.entryCol {
			f.newEntry(i, 2)
		}
		f.problem(i, "indentation matches no line above", "align it with the other entries of its list or mapping")
		return false
	case f.stack[n-1].col < i && !f.pending:
		if n == 1 { // the line above may be an entry that begins in the wrong column
			f.before = append(f.before, f.previous)
		}
		f.problem(i, "indented deeper than the line above, which is complete", "align it with the line above, or remove the value there")
		return false
	case f.stack[n-1].col < i, list && !f.stack[n-1].list && f.pending:
		if n+1 > maxDepth {
			f.stop(i, fmt.Sprintf("nested more than %d levels deep", maxDepth), "this is no configuration")
			return false
		}
		f.stack = append(f.stack, level{col: i, list: list})
	case f.stack[n-1].list != list:
		f.newEntry(i, n)
		if list {
			f.problem(i, "a list entry among keys", "indent it under the key it belongs to, or remove the dash")
		} else {
			f.problem(i, "a key among list entries", "begin it with \"- \", or indent it under the entry it belongs to")
		}
		return false
	case f.pending && !popped:
		f.emptyValue()
	}
	top := &f.stack[len(f.stack)-1]
	if top.entries++; top.entries > maxEntries && !top.list {
		f.stop(i, fmt.Sprintf("more than %d entries", maxEntries), "no network is that large; check the file")
		return false
	}
	if len(f.stack) == 1 {
		f.newSection(f.line)
	} else if first {
		f.newEntry(i, len(f.stack))
	}
	return !f.fatal
}

func (f *fence) newSection(line int) {
	f.previous = f.section
	f.section, f.entry, f.entryCol = line, -1, -1
}

// newEntry notes that an entry of the section begins, if depth says so.
func (f *fence) newEntry(i, depth int) {
	if depth <= 2 && f.section >= 0 {
		f.entry = f.line
		if f.entryCol < 0 {
			f.entryCol = i
		}
	}
}

// emptyValue counts keys and dashes without a value. What they mean is the
// decoder's business, but too many of them are slow to read.
func (f *fence) emptyValue() {
	if f.empty++; f.empty > maxEmpty {
		f.stop(0, fmt.Sprintf("more than %d keys without a value", maxEmpty), "give each key a value, or remove it")
	}
}

// bare handles a scalar that is no key at byte i.
func (f *fence) bare(l string, i, end int, first bool) {
	rest := spaces(l, end)
	if rest < len(l) && l[rest] != '#' {
		f.problem(rest, fmt.Sprintf("unexpected text after %s", l[i:end]), "remove it, or put quotes around the whole value")
		return
	}
	key, value := glued(l[i:end])
	if !first { // after a dash
		f.pending = false
		if key != "" {
			f.unglue(i, key, value)
		}
		return
	}
	f.locate(l, i)
	if key != "" {
		f.unglue(i, key, value)
		return
	}
	f.problem(i, fmt.Sprintf("expected a key and a colon, found %q", cut(l[i:end])), "write \"key: value\"; a value stands on the line of its key")
}

// glued takes "vlan:10" apart. The key is "" if that is not what s is: other words
// with a colon in them, such as addresses, are good values.
func glued(s string) (key, value string) {
	key, value, _ = strings.Cut(s, ":")
	if value != "" && isKey(key) {
		return key, value
	}
	return "", ""
}

// isKey reports whether some mapping of the language has the key.
func isKey(s string) bool {
	for _, keys := range tables {
		if slices.ContainsFunc(keys, func(k key) bool { return k.name == s }) {
			return true
		}
	}
	return false
}

// unglue reports the key and value that begin at byte i of the current line.
func (f *fence) unglue(i int, key, value string) {
	f.problem(i+len(key), "a space is missing after the colon", fmt.Sprintf("write %s: %s", key, cut(value)))
}

// breakOff notes that a broken line stands where a top-level key should. Unless it is
// one, the section and entry before it go on there, and are incomplete.
func (f *fence) breakOff(l string) {
	f.before = append(f.before, f.section)
	word := sectionName(l)
	if f.entry >= 0 && !slices.ContainsFunc(tables[""], func(k key) bool { return k.name == word }) {
		f.bad[f.entry] = true
	}
}

// locate finds the section or entry that a line without a key belongs to.
func (f *fence) locate(l string, i int) {
	if i == 0 {
		f.stack = f.stack[:0]
		f.breakOff(l)
		f.newSection(f.line)
	} else if f.entryCol < 0 || i <= f.entryCol {
		if i < f.entryCol && f.entry >= 0 {
			f.bad[f.entry] = true
		}
		f.newEntry(i, 2)
	}
}

// value reads the value that begins at byte i, behind a key or a dash.
func (f *fence) value(l string, i int) {
	f.pending = false
	if l[i] == '[' || l[i] == '{' {
		f.flowCol = len(l) - len(strings.TrimLeft(l, " "))
		f.scanFlow(l, i)
		return
	}
	end, ok := f.scalar(l, i, false)
	if !ok {
		return
	}
	if at := colonAfter(l, end); at >= 0 {
		f.problem(at, "a second colon on the line", "put quotes around the value if the colon belongs to it; otherwise start a new line")
		return
	}
	if rest := spaces(l, end); rest < len(l) && l[rest] == '\t' {
		f.tab(rest)
	} else if rest < len(l) && (l[rest] != '#' || rest == end) {
		f.problem(rest, "unexpected text after the closing quote", "remove it, or put quotes around the whole value")
	}
}

// scalar finds the end of the scalar at byte i. Not ok: it reported a problem.
func (f *fence) scalar(l string, i int, inFlow bool) (end int, ok bool) {
	switch c := l[i]; c {
	case '"', '\'':
		for j := i + 1; j < len(l); j++ {
			switch {
			case l[j] == '\\' && c == '"':
				j++
			case l[j] == '\'' && c == '\'' && j+1 < len(l) && l[j+1] == '\'':
				j++
			case l[j] == c:
				return j + 1, true
			}
		}
		f.problem(i, "the quote is not closed on this line", fmt.Sprintf("add the missing %c", c))
		return 0, false
	case '*':
		if i+1 == len(l) || strings.IndexByte(" ,]}", l[i+1]) >= 0 {
			f.problem(i, "\"*\" means nothing here", noEverything)
			return 0, false
		}
		fallthrough
	case '&':
		f.problem(i, "anchors and aliases are not used in this language", "write the value out, or quote it if the character belongs to it; groups name what several rules share")
		return 0, false
	case '!':
		f.problem(i, "YAML tags are not used in this language", "remove it, or quote the value if the character belongs to it")
		return 0, false
	case '|', '>':
		f.problem(i, "block text is not used in this language", "write the value on one line")
		return 0, false
	case '%', '@', '`', ',', ']', '}', '[', '{':
		f.problem(i, fmt.Sprintf("unexpected %q", l[i:i+1]), "remove it, or put quotes around the value if it belongs to it")
		return 0, false
	case '#':
		f.problem(i, "a comment needs a space before it", "put a space before the #, or quotes around the value if it belongs to it")
		return 0, false
	}
	if r, _ := utf8.DecodeRuneInString(l[i:]); strings.ContainsRune(typographic, r) {
		f.problem(i, fmt.Sprintf("%c is a typographic quote", r), "use plain quotes: \"")
		return 0, false
	}
	if i+1 == len(l) || strings.IndexByte(" ,[]{}", l[i+1]) >= 0 {
		switch l[i] {
		case '?':
			f.problem(i, "complex keys are not used in this language", "write \"key: value\"")
			return 0, false
		case '-':
			f.problem(i, "a list with dashes cannot begin here", "begin it on the next line, indented, or write [a, b]")
			return 0, false
		case ':':
			f.problem(i, "nothing stands before the colon", "write \"key: value\"")
			return 0, false
		}
	}
	return f.plain(l, i, inFlow)
}

// typographic holds the quotes that word processors and web pages make of plain ones.
const typographic = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb"

// wide holds the characters that look like a space and are none to YAML.
const wide = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u202f\u205f\u2060\u3000"

// plain finds the end of the scalar without quotes at byte i.
func (f *fence) plain(l string, i int, inFlow bool) (end int, ok bool) {
	end = i
	for j := i; j < len(l); j++ {
		c := l[j]
		switch {
		case c == '\t':
			if k := spaces(l, j); strings.HasPrefix(strings.TrimLeft(l[k:], " \t"), "#") {
				return end, true // between a value and its comment a tab does no harm
			}
			f.tab(j)
			return 0, false
		case c >= utf8.RuneSelf && utf8.RuneStart(c) && f.wide(l, j):
			return 0, false
		case c == '#' && j > i && l[j-1] == ' ':
			return end, true
		case inFlow && strings.IndexByte(",[]{}", c) >= 0:
			return end, true
		case c == ':' && (j+1 == len(l) || l[j+1] == ' ' || inFlow && strings.IndexByte(",[]{}", l[j+1]) >= 0):
			return end, true
		}
		if c != ' ' {
			end = j + 1
		}
	}
	return end, true
}

func isWide(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return strings.ContainsRune(wide, r)
}

// wide reports a character at byte i that only looks like a space.
func (f *fence) wide(l string, i int) bool {
	if !isWide(l[i:]) {
		return false
	}
	r, _ := utf8.DecodeRuneInString(l[i:])
	what := "this is not an ordinary space"
	if r == 0xa0 || r == 0x2007 || r == 0x202f {
		what = "this is a no-break space"
	}
	f.problem(i, fmt.Sprintf("%s: %U", what, r), "type an ordinary space in its place")
	return true
}

// colonAfter returns the index of the colon that makes a key of the scalar that
// ends at byte end, or -1.
func colonAfter(l string, end int) int {
	end = spaces(l, end)
	if end < len(l) && l[end] == ':' && (end+1 == len(l) || l[end+1] == ' ') {
		return end
	}
	return -1
}

// scanFlow reads on inside flow collections, or begins one, until the line ends.
func (f *fence) scanFlow(l string, i int) {
	for i = spaces(l, i); i < len(l); i = spaces(l, i) {
		c := l[i]
		if c == '#' && (i == 0 || l[i-1] == ' ') {
			return
		}
		if c == '\t' {
			f.tab(i)
			return
		}
		if len(f.flow) == 0 && c != '[' && c != '{' {
			f.problem(i, fmt.Sprintf("unexpected %q after the closing bracket", cut(l[i:])), "remove it, or check the brackets before it")
			return
		}
		next, ok := f.flowToken(l, i)
		if !ok {
			return
		}
		i = next
		if len(f.flow) == 0 {
			if i = spaces(l, i); i < len(l) && !(l[i] == '#' && l[i-1] == ' ') {
				f.problem(i, fmt.Sprintf("unexpected %q after the closing bracket", cut(l[i:])), "remove it, or check the brackets before it")
			}
			return
		}
	}
}

// flowToken reads one token inside flow collections and returns where it ends.
func (f *fence) flowToken(l string, i int) (next int, ok bool) {
	switch c := l[i]; c {
	case '[', '{':
		if !f.flowPart(l, i) {
			return 0, false
		}
		if len(f.flow)+len(f.stack) >= maxDepth {
			f.stop(i, fmt.Sprintf("nested more than %d levels deep", maxDepth), "this is no configuration")
			return 0, false
		}
		f.flow = append(f.flow, open{line: f.line, col: i, mapping: c == '{'})
		return i + 1, true
	case ']', '}':
		top := f.flow[len(f.flow)-1]
		if top.mapping != (c == '}') {
			f.problem(i, fmt.Sprintf("%q does not close the %q before it", l[i:i+1], f.lines[top.line][top.col:top.col+1]), "check the brackets")
			return 0, false
		}
		if !f.endEntry(&top) {
			return 0, false
		}
		f.flow = f.flow[:len(f.flow)-1]
		return i + 1, true
	case ',':
		top := &f.flow[len(f.flow)-1]
		if top.have == nothing {
			f.problem(i, "nothing stands before the comma", "remove the comma, or add what is missing")
			return 0, false
		}
		return i + 1, f.endEntry(top)
	case ':':
		adjacent := i > 0 && strings.IndexByte(`"'`, l[i-1]) >= 0 // {"key":value}, as JSON has it
		if !adjacent && i+1 < len(l) && strings.IndexByte(" ,[]{}", l[i+1]) < 0 {
			break // the value begins with a colon
		}
		if top := &f.flow[len(f.flow)-1]; top.have == single {
			top.have = colon
			return i + 1, true
		}
		f.problem(i, "unexpected colon", "put quotes around the value if the colon belongs to it; otherwise put a comma before the next key")
		return 0, false
	}
	end, ok := f.scalar(l, i, true)
	if !ok || !f.flowPart(l, i) {
		return 0, false
	}
	return end, true
}

// flowPart notes that a scalar or collection begins at byte i of a flow entry.
func (f *fence) flowPart(l string, i int) bool {
	if len(f.flow) == 0 {
		return true
	}
	top := &f.flow[len(f.flow)-1]
	switch top.have {
	case nothing:
		top.have, top.from = single, [2]int{f.line, i}
	case colon:
		top.have = pair
	default:
		f.problem(i, fmt.Sprintf("a comma is missing before %q", cut(l[i:])), "put a comma between entries")
		return false
	}
	return true
}

// endEntry closes the current entry of a flow collection.
func (f *fence) endEntry(o *open) bool {
	switch {
	case o.mapping && o.have == single:
		found := f.lines[o.from[0]][o.from[1]:]
		if end := strings.IndexAny(found, ",}"); end > 0 {
			found = found[:end]
		}
		if key, value := glued(strings.TrimRight(found, " ")); key != "" {
			f.problemAt(o.from[0], o.from[1]+len(key), "a space is missing after the colon", fmt.Sprintf("write %s: %s", key, cut(value)))
			return false
		}
		f.problemAt(o.from[0], o.from[1], fmt.Sprintf("expected a key and a colon, found %q", cut(found)), "between braces write {key: value}; a list stands between square brackets")
		return false
	case o.have == colon:
		f.emptyValue()
	}
	o.have = nothing
	if o.entries++; o.mapping && o.entries > maxEntries {
		f.stop(0, fmt.Sprintf("more than %d entries", maxEntries), "no network is that large; check the file")
	}
	return !f.fatal
}

// source returns what is left of the file when every entry with a mistake is taken
// out of it, lines and columns unchanged, and the top-level keys that may have lost
// something by that.
func (f *fence) source() (src string, broken map[string]bool) {
	type place struct{ sec, ent int }
	out := make(map[place]bool)
	broken = make(map[string]bool)
	for i, bad := range f.bad {
		if bad {
			out[place{f.secOf[i], f.entOf[i]}] = true
			broken[f.sectionName(f.secOf[i])] = true
		}
	}
	for _, section := range f.before {
		broken[f.sectionName(section)] = true
	}
	var b strings.Builder
	for i, l := range f.lines {
		p := place{f.secOf[i], f.entOf[i]}
		if !out[p] && !out[place{p.sec, -1}] {
			b.WriteString(l)
		}
		b.WriteByte('\n')
	}
	return b.String(), broken
}

// spoil gives up the entry that holds a line, counted from 1. It reports whether
// that leaves less than before.
func (f *fence) spoil(line int) bool {
	i := min(max(line-1, 0), len(f.bad)-1)
	was := f.bad[i]
	f.bad[i] = true
	return !was
}

// sectionName returns the top-level key on a line.
func (f *fence) sectionName(line int) string {
	if line < 0 {
		return ""
	}
	return sectionName(f.lines[line])
}

func sectionName(l string) string {
	l = strings.TrimLeft(l, ` "'`)
	end := strings.IndexFunc(l, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' && r != '-' })
	if end >= 0 {
		l = l[:end]
	}
	return l
}

// spaces returns the index of the first byte from i on that is no space.
func spaces(l string, i int) int {
	for i < len(l) && l[i] == ' ' {
		i++
	}
	return i
}

// cut shortens a piece of the file for a message.
func cut(s string) string {
	const limit = 40
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}
