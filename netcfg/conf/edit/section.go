package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkhead/netcfg/conf"
)

// sections are the top-level keys in the order in which people find them in the examples.
var sections = []string{"system", "ports", "internet", "resolvers", "zones", "devices", "groups", "protocols", "allow", "block", "forwards", "tests", "flows", "export", "alerts"}

// addMember puts a member at the end of a section: under a name of its own, or, where the
// section is a list, with a name among its keys.
func addMember(section, name string, keys []key) Edit {
	isList := keys[0].name == "name"
	return Edit{
		steps: []step{func(d *doc) ([]splice, error) {
			for _, k := range append(keys, key{"name", words(name)}) {
				if err := k.check(section + "." + name + "." + k.name); err != nil {
					return nil, err
				}
			}
			if d.at(section, name) != nil {
				return nil, fmt.Errorf("%s: %q is there already", section, name)
			}
			return d.addMember(section, name, isList, written(keys))
		}},
		means: func(list []leaf) []leaf {
			list = slices.Clone(list)
			for _, k := range written(keys) {
				list = append(list, k.leaves(pathOf(section, name, k.name))...)
			}
			return list
		},
	}
}

// written are the keys that need to be written.
func written(keys []key) []key {
	return slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return len(k.words) == 0 || k.usual })
}

func (d *doc) addMember(section, name string, isList bool, keys []key) ([]splice, error) {
	n := d.root.Get(section)
	switch {
	case n == nil:
		return d.addSection(section, append([]string{section + ":"}, memberLines(name, isList, "  ", !isList, keys)...)), nil
	case n.Kind == conf.Nothing:
		return d.fill(section, memberLines(name, isList, "  ", !isList, keys))
	case isList != (n.Kind == conf.List):
		return nil, errStrange
	case n.Flow:
		return d.removeFrom(n, spansOf(n), func(int) bool { return false }, []string{inline(name, isList, keys)}), nil
	}
	column := d.column(n.From)
	if !isList {
		column = d.column(n.Keys[0].Key.From)
	}
	last, flow := d.lastMember(n)
	lines := memberLines(d.padded(n, name), isList, strings.Repeat(" ", column), flow, keys)
	if first := d.lineStart(last); len(n.Items)+len(n.Keys) > 1 && strings.TrimSpace(d.line(d.lineStart(first-1))) == "" {
		lines = append([]string{""}, lines...) // so are the others
	}
	return []splice{d.insertLines(d.below(n.To, column), lines...)}, nil
}

// lastMember is where the last member of a collection begins, and whether it is written in
// brackets.
func (d *doc) lastMember(n *conf.Node) (from int, flow bool) {
	if n.Kind == conf.List {
		i := len(n.Items) - 1
		return d.dash(n, i), n.Items[i].Flow
	}
	e := n.Keys[len(n.Keys)-1]
	return e.Key.From, e.Value.Flow
}

// padded is a name with spaces behind it, so that what follows its colon stands below
// that of the others, if those stand below each other.
func (d *doc) padded(n *conf.Node, name string) string {
	return fmt.Sprintf("%-*s", max(0, d.columned(n)-len(": ")), name)
}

// columned is how far behind the beginnings of their names the values of a mapping begin,
// or -1 if they do not stand below each other.
func (d *doc) columned(n *conf.Node) int {
	width := -1
	for _, e := range n.Keys {
		if !e.Value.Flow || d.lineStart(e.Key.From) != d.lineStart(e.Value.From) {
			continue
		}
		w := e.Value.From - e.Key.From
		if width >= 0 && w != width {
			return -1
		}
		width = w
	}
	if len(n.Keys) < 2 {
		return -1
	}
	return width
}

// memberLines writes a member. A padded name has the spaces behind the colon.
func memberLines(name string, isList bool, indent string, flow bool, keys []key) (lines []string) {
	bare := strings.TrimRight(name, " ")
	pad := name[len(bare):]
	switch {
	case isList && flow:
		return []string{indent + "- " + inline(bare, true, keys)}
	case flow:
		return []string{indent + quote(bare, true) + ":" + pad + " " + inlineKeys(keys)}
	case isList:
		for i, k := range keys {
			lead := indent + "  "
			if i == 0 {
				lead = indent + "- "
			}
			lines = append(lines, lead+k.line(false))
		}
		return lines
	}
	lines = []string{indent + quote(bare, false) + ":"}
	for _, k := range keys {
		lines = append(lines, indent+"  "+k.line(false))
	}
	return lines
}

// inline writes a member as it stands between brackets.
func inline(name string, isList bool, keys []key) string {
	if isList {
		return inlineKeys(keys)
	}
	return quote(name, true) + ": " + inlineKeys(keys)
}

func inlineKeys(keys []key) string {
	var list []string
	for _, k := range keys {
		list = append(list, k.line(true))
	}
	return "{" + strings.Join(list, ", ") + "}"
}

// addSection writes a section that the file lacks behind the last of those that come
// before it in the examples, as ports and zones do, which no file lacks.
func (d *doc) addSection(section string, lines []string) []splice {
	at := 0
	for _, e := range d.root.Keys {
		if slices.Index(sections, e.Key.Text) < slices.Index(sections, section) {
			at = max(at, e.Key.To, e.Value.To)
		}
	}
	return []splice{d.insertLines(d.below(at, 1), append([]string{""}, lines...)...)}
}

// fill writes lines under the key of a section that is empty.
func (d *doc) fill(section string, lines []string) ([]splice, error) {
	i := slices.IndexFunc(d.root.Keys, func(e conf.Entry) bool { return e.Key.Text == section })
	from := d.root.Keys[i].Key.To
	rest := d.line(d.lineStart(from))[d.column(from):]
	colon := strings.IndexByte(rest, ':') + 1
	word := rest[colon:]
	if c := strings.Index(word, " #"); c >= 0 {
		word = word[:c]
	}
	list := []splice{d.insertLines(d.below(from, 1), lines...)}
	if w := strings.TrimRight(word, " "); w != "" { // null, in one way or another
		list = append(list, splice{from + colon, from + colon + len(w), ""})
	}
	return list, nil
}

// removeMember takes a member out of a section. Noun is what it is, for the error.
func removeMember(section, noun, name string) Edit {
	return Edit{
		steps: []step{func(d *doc) ([]splice, error) {
			n := d.root.Get(section)
			i := -1
			switch {
			case n == nil:
			case n.Kind == conf.List:
				i = member(n, name)
			default:
				i = slices.IndexFunc(n.Keys, func(e conf.Entry) bool { return e.Key.Text == name })
			}
			switch {
			case i < 0:
				return nil, missing(noun, name)
			case n.Flow:
				return d.removeFrom(n, spansOf(n), func(at int) bool { return at == i }, nil), nil
			case n.Kind == conf.List:
				return []splice{d.removeItem(n, i)}, nil
			}
			return d.removeKey(n, i), nil
		}},
		means: func(list []leaf) []leaf { return without(list, pathOf(section, name)) },
	}
}

// ErrMissing is the error of an edit of something that the file does not have.
var ErrMissing = errors.New("it is not in the file")

func missing(noun, name string) error {
	return fmt.Errorf("no %s is called %q: %w", noun, name, ErrMissing)
}

// present has an edit fail where what it is about is not there.
func present(section, noun, name string, e Edit) Edit {
	e.steps = append([]step{func(d *doc) ([]splice, error) {
		if d.at(section, name) == nil {
			return nil, missing(noun, name)
		}
		return nil, nil
	}}, e.steps...)
	return e
}
