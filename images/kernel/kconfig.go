package kernel

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Kconfig is what a kernel source says about its options: enough of it to tell why
// an option did not come out as asked for, not enough to work out configurations,
// which stays with the kernel's own tools.
type Kconfig struct {
	fsys    fs.FS
	srcarch string
	depends map[string][][]string // per option and place where it is described, the conditions that hold there
	selects map[string][]string   // option to those that select it
}

// ReadKconfig reads the files named Kconfig of a kernel source, as they follow from
// the first one for an architecture (the name of a folder under arch).
func ReadKconfig(source fs.FS, srcarch string) (*Kconfig, error) {
	k := &Kconfig{fsys: source, srcarch: srcarch, depends: map[string][][]string{}, selects: map[string][]string{}}
	if err := k.file("Kconfig", nil, 0); err != nil {
		return nil, err
	}
	return k, nil
}

var (
	kconfigEntry  = regexp.MustCompile(`^\s*(?:menu)?config\s+([A-Za-z0-9_]+)\s*$`)
	kconfigSource = regexp.MustCompile(`^\s*source\s+"([^"]+)"`)
	kconfigWord   = regexp.MustCompile(`^\s*([a-z_]+)\b\s*(.*)$`) // and what follows it
	kconfigPrompt = regexp.MustCompile(`^\s*(?:bool|tristate|string|hex|int|prompt)\s+"`)
	kconfigMacro  = regexp.MustCompile(`\$\([^()]*\)`)
)

// kconfigReader is a place in a file.
type kconfigReader struct {
	*Kconfig
	name    string
	blocks  [][]string // conditions per open if, menu and choice
	outer   []string   // conditions around the file
	depth   int        // of files in files
	option  string     // being described; "" outside of any
	atBlock bool       // the lines that follow describe a menu or choice just opened
}

// maxDepth bounds how deep files may be in files. Linux goes down to seven.
const maxDepth = 30

func (k *Kconfig) file(name string, outer []string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("read options: %s is in itself", name)
	}
	data, err := fs.ReadFile(k.fsys, name)
	if err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	r := &kconfigReader{Kconfig: k, name: name, outer: outer, depth: depth}
	text := strings.ReplaceAll(string(data), "\\\n", " ")
	const none, unknown = -1, 0
	help := none // indentation of the help text that we are in
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimRight(line, " \t\n"), "\t", "        ")
		if line == "" {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if help == unknown && indent > 0 {
			help = indent
		}
		switch {
		case help > 0 && indent >= help:
			continue
		case strings.TrimSpace(line) == "help":
			help = unknown
			continue
		}
		help = none
		if err := r.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (r *kconfigReader) line(line string) error {
	if m := kconfigSource.FindStringSubmatch(line); m != nil {
		r.option, r.atBlock = "", false
		return r.source(m[1])
	}
	if m := kconfigEntry.FindStringSubmatch(line); m != nil {
		r.option, r.atBlock = m[1], false
		r.depends[r.option] = append(r.depends[r.option], r.conditions())
		return nil
	}
	m := kconfigWord.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	switch word, rest := m[1], m[2]; word {
	case "if", "menu", "choice":
		r.option, r.atBlock = "", word != "if"
		var conditions []string
		if word == "if" {
			conditions = []string{rest}
		}
		r.blocks = append(r.blocks, conditions)
	case "endif", "endmenu", "endchoice":
		r.option, r.atBlock = "", false
		if len(r.blocks) == 0 {
			return fmt.Errorf("%s: %s without a beginning", r.name, word)
		}
		r.blocks = r.blocks[:len(r.blocks)-1]
	case "comment":
		r.option, r.atBlock = "", false
	case "depends":
		r.condition(strings.TrimSpace(strings.TrimPrefix(rest, "on")))
	case "select":
		chosen, _, _ := strings.Cut(rest, " ")
		if r.option != "" {
			r.selects[chosen] = append(r.selects[chosen], r.option)
		}
	default:
		// A prompt that is not shown cannot be answered, so its condition counts.
		if _, shown, ok := strings.Cut(line, `" if `); ok && kconfigPrompt.MatchString(line) {
			r.condition(strings.TrimSpace(shown))
		}
	}
	return nil
}

// condition adds to what is being described.
func (r *kconfigReader) condition(expr string) {
	expr, _, _ = strings.Cut(expr, " #")
	switch {
	case r.option != "":
		places := r.depends[r.option]
		places[len(places)-1] = append(places[len(places)-1], expr)
	case r.atBlock:
		last := len(r.blocks) - 1
		r.blocks[last] = append(r.blocks[last], expr)
	}
}

func (r *kconfigReader) conditions() []string {
	return append(slices.Clone(r.outer), slices.Concat(r.blocks...)...)
}

func (r *kconfigReader) source(name string) error {
	name = strings.ReplaceAll(name, "$(SRCARCH)", r.srcarch)
	if strings.Contains(name, "$") { // of an architecture that we do not build for
		return nil
	}
	return r.file(path.Clean(name), r.conditions(), r.depth+1)
}

// Explain says in words why an option has the value it has in got, and not the one
// that was wanted.
func (k *Kconfig) Explain(option, wanted string, got Config) string {
	places, known := k.depends[option]
	have := got.Get(option)
	switch {
	case !known:
		return fmt.Sprintf("CONFIG_%s: this source has no such option", option)
	case wanted == "n":
		var by []string
		for _, s := range k.selects[option] {
			if got.On(s) && !slices.Contains(by, s) {
				by = append(by, s)
			}
		}
		if len(by) == 0 {
			return fmt.Sprintf("CONFIG_%s: wanted off, is %s: nobody is asked about it", option, have)
		}
		slices.Sort(by)
		return fmt.Sprintf("CONFIG_%s: wanted off, is %s: selected by %s", option, have, strings.Join(by, ", "))
	}
	// Described in several places, one that holds is enough: show the nearest.
	var nearest []string
	for i, conditions := range places {
		var unmet []string
		for _, c := range conditions {
			unmet = append(unmet, unmetBy(parseExpr(c), got)...)
		}
		if i == 0 || len(unmet) < len(nearest) {
			nearest = unmet
		}
	}
	if len(nearest) == 0 {
		return fmt.Sprintf("CONFIG_%s: wanted %s, is %s: something else decides it", option, wanted, have)
	}
	slices.Sort(nearest)
	return fmt.Sprintf("CONFIG_%s: wanted %s, is %s: it depends on %s", option, wanted, have, strings.Join(slices.Compact(nearest), " and on "))
}

// expr is a condition: a comparison, or several joined by op.
type expr struct {
	op   string // "&&", "||", "!" or "" for a leaf
	args []expr
	leaf string // "NET", "X = y"
}

var exprToken = regexp.MustCompile(`&&|\|\||!=|<=|>=|[!()=<>]|"[^"]*"|[^\s&|!()=<>"]+`)

// parseExpr reads a condition. What is filled in by a macro (does the compiler know
// an option?) cannot be judged here and passes for true.
func parseExpr(s string) expr {
	for kconfigMacro.MatchString(s) { // they nest
		s = kconfigMacro.ReplaceAllString(s, "y")
	}
	p := exprParser{tokens: exprToken.FindAllString(s, -1)}
	return p.binary("||", func() expr { return p.binary("&&", p.unary) })
}

type exprParser struct{ tokens []string }

func (p *exprParser) next(want ...string) string {
	if len(p.tokens) == 0 || len(want) > 0 && !slices.Contains(want, p.tokens[0]) {
		return ""
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t
}

func (p *exprParser) binary(op string, operand func() expr) expr {
	e := expr{op: op, args: []expr{operand()}}
	for p.next(op) != "" {
		e.args = append(e.args, operand())
	}
	if len(e.args) == 1 {
		return e.args[0]
	}
	return e
}

func (p *exprParser) unary() expr {
	switch {
	case p.next("!") != "":
		return expr{op: "!", args: []expr{p.unary()}}
	case p.next("(") != "":
		e := p.binary("||", func() expr { return p.binary("&&", p.unary) })
		p.next(")")
		return e
	}
	leaf := p.next()
	if op := p.next("=", "!=", "<", "<=", ">", ">="); op != "" {
		leaf += " " + op + " " + p.next()
	}
	return expr{leaf: leaf}
}

func (e expr) String() string {
	switch e.op {
	case "":
		return e.leaf
	case "!":
		if e.args[0].op == "" {
			return "!" + e.args[0].String()
		}
		return "!(" + e.args[0].String() + ")"
	}
	var parts []string
	for _, a := range e.args {
		if e.op == "&&" && a.op == "||" {
			parts = append(parts, "("+a.String()+")")
		} else {
			parts = append(parts, a.String())
		}
	}
	return strings.Join(parts, " "+e.op+" ")
}

func (e expr) holds(c Config) bool {
	switch e.op {
	case "!":
		return !e.args[0].holds(c)
	case "&&":
		return !slices.ContainsFunc(e.args, func(a expr) bool { return !a.holds(c) })
	case "||":
		return slices.ContainsFunc(e.args, func(a expr) bool { return a.holds(c) })
	}
	left, rest, compared := strings.Cut(e.leaf, " ")
	if !compared {
		return left == "y" || c.Get(left) == "y"
	}
	op, right, _ := strings.Cut(rest, " ")
	value := func(s string) string {
		if v, ok := c[s]; ok {
			return strings.Trim(v, `"`)
		}
		if s == strings.ToUpper(s) && strings.ContainsFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
			return "n"
		}
		return strings.Trim(s, `"`)
	}
	switch op {
	case "=":
		return value(left) == value(right)
	case "!=":
		return value(left) != value(right)
	}
	return true // an order of numbers: never why a fragment's line is lost
}

// unmetBy returns the smallest parts of a condition that do not hold.
func unmetBy(e expr, c Config) []string {
	if e.holds(c) {
		return nil
	}
	if e.op != "&&" {
		return []string{e.String()}
	}
	var parts []string
	for _, a := range e.args {
		parts = append(parts, unmetBy(a, c)...)
	}
	return parts
}
