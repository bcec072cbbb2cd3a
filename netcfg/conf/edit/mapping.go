package edit

import (
	"slices"
	"strings"

	"bulkhead/netcfg/conf"
)

// key is a key of a mapping and what it is given.
type key struct {
	name string
	value
}

// at returns what stands at a path, or nil. Members of lists are known by their name.
func (d *doc) at(path ...string) *conf.Node {
	n := d.root
	for _, p := range path {
		if n = child(n, p); n == nil {
			return nil
		}
	}
	return n
}

func child(n *conf.Node, name string) *conf.Node {
	if n.Kind != conf.List {
		return n.Get(name)
	}
	if i := member(n, name); i >= 0 {
		return n.Items[i]
	}
	return nil
}

// member is the place in a list of what has the name, or -1.
func member(n *conf.Node, name string) int {
	return slices.IndexFunc(n.Items, func(i *conf.Node) bool {
		v := i.Get("name")
		return v != nil && v.Text == name
	})
}

// setKeys gives keys of the mapping at a path values, or takes them away. Keys that are
// not named stay. Those that the file does not have yet come in the order of the list.
func setKeys(path []string, keys ...key) Edit {
	at := pathOf(path...)
	e := Edit{means: func(list []leaf) []leaf {
		for _, k := range keys {
			old := pathOf(at, k.name)
			if now := said(list, old); k.usual && now == nil || slices.Equal(now, k.words) {
				continue
			}
			list = append(without(list, old), k.leaves(old)...)
		}
		return list
	}}
	for _, remove := range []bool{false, true} { // so that no mapping is left empty on the way
		for i, k := range keys {
			if remove == (len(k.words) == 0) {
				e.steps = append(e.steps, setKey(path, k, keys[:i]))
			}
		}
	}
	return e
}

// said are the words that stand at a path or below it; nil: none.
func said(list []leaf, path string) (texts []string) {
	for _, l := range list {
		if l.under(path) {
			texts = append(texts, l.text)
		}
	}
	return texts
}

// setKey sets one key, of which some are known to come before it.
func setKey(path []string, k key, before []key) step {
	return func(d *doc) ([]splice, error) {
		if err := k.check(strings.Join(append(slices.Clone(path), k.name), ".")); err != nil {
			return nil, err
		}
		m := d.at(path...)
		if m == nil || m.Kind != conf.Mapping {
			return nil, errStrange
		}
		at := slices.IndexFunc(m.Keys, func(e conf.Entry) bool { return e.Key.Text == k.name })
		switch {
		case at < 0 && (len(k.words) == 0 || k.usual):
			return nil, nil
		case at < 0:
			return d.insertKey(m, k, before), nil
		case len(k.words) == 0:
			return d.removeKey(m, at), nil
		}
		return d.setValue(m.Keys[at].Value, k.value, m.Flow), nil
	}
}

// insertKey writes a key that a mapping lacks behind the last of those before it that it
// has, or else at the end.
func (d *doc) insertKey(m *conf.Node, k key, before []key) []splice {
	if len(m.Keys) == 0 { // {}
		return []splice{{m.From, m.To, "{" + k.line(true) + "}"}}
	}
	after := -1
	for i, e := range m.Keys {
		if slices.ContainsFunc(before, func(b key) bool { return b.name == e.Key.Text }) {
			after = i
		}
	}
	if after < 0 {
		after = len(m.Keys) - 1
	}
	prev := m.Keys[after]
	if m.Flow {
		return []splice{{prev.Value.To, prev.Value.To, ", " + k.line(true)}}
	}
	indent := strings.Repeat(" ", d.column(m.Keys[0].Key.From))
	return []splice{d.insertLines(d.nextLine(max(prev.Key.To, prev.Value.To)), indent+k.line(false))}
}

func (k key) line(inFlow bool) string { return k.name + ": " + k.text(inFlow) }

// removeKey takes a key and its value out of a mapping.
func (d *doc) removeKey(m *conf.Node, i int) []splice {
	e := m.Keys[i]
	if m.Flow {
		return d.removeFrom(m, spansOf(m), func(at int) bool { return at == i }, nil)
	}
	if strings.TrimSpace(d.text[d.lineStart(e.Key.From):e.Key.From]) == "" {
		return []splice{d.removeLines(e.Key.From, e.Value.To)}
	}
	// It stands behind the dash of a list.
	if i+1 == len(m.Keys) {
		return []splice{{e.Key.From, e.Value.To, "{}"}}
	}
	return []splice{{e.Key.From, m.Keys[i+1].Key.From, ""}}
}

// span is where a member of a collection begins and ends.
type span struct{ from, to int }

func spansOf(n *conf.Node) (list []span) {
	for _, i := range n.Items {
		list = append(list, span{i.From, i.To})
	}
	for _, e := range n.Keys {
		list = append(list, span{e.Key.From, max(e.Key.To, e.Value.To)})
	}
	return list
}

// removeFrom takes members out of a collection in brackets, and puts others at its end.
func (d *doc) removeFrom(n *conf.Node, members []span, gone func(int) bool, added []string) (list []splice) {
	last := -1 // that stays
	for i := range members {
		if !gone(i) {
			last = i
		}
	}
	if last < 0 {
		return []splice{{n.From + 1, n.To - 1, strings.Join(added, ", ")}}
	}
	for i := range last {
		if gone(i) {
			list = append(list, splice{members[i].from, members[i+1].from, ""})
		}
	}
	tail := ""
	for _, a := range added {
		tail += ", " + a
	}
	if end := members[len(members)-1].to; tail != "" || end > members[last].to {
		list = append(list, splice{members[last].to, end, tail})
	}
	return list
}

// setValue gives a key that has a value another one.
func (d *doc) setValue(old *conf.Node, v value, inFlow bool) []splice {
	switch {
	case slices.Equal(valueOf(old), v.words):
		return nil
	case old.Kind == conf.List && len(old.Items) > 0 && !v.plain:
		return d.setList(old, v.words)
	case old.Kind == conf.Mapping && !old.Flow: // it begins on a line of its own
		colon := strings.LastIndexByte(d.text[:old.From], ':')
		return []splice{{colon + 1, old.To, " " + v.text(inFlow)}}
	}
	v.listed = v.listed && old.Kind >= conf.List // a word stays one
	return []splice{{old.From, old.To, v.text(inFlow)}}
}

// valueOf are the words that a value of one or of a list of them holds.
func valueOf(n *conf.Node) (list []string) {
	if n.Kind != conf.List && n.Kind != conf.Mapping {
		return []string{n.Text}
	}
	for _, i := range n.Items {
		list = append(list, i.Text)
	}
	return list
}

// setList changes the members of a list. What stays, stays as it is written.
func (d *doc) setList(old *conf.Node, want []string) (list []splice) {
	have := valueOf(old)
	kept := slices.DeleteFunc(slices.Clone(have), func(w string) bool { return !slices.Contains(want, w) })
	gone := func(i int) bool { return !slices.Contains(want, have[i]) }
	added := want[min(len(kept), len(want)):]
	if !slices.Equal(kept, want[:min(len(kept), len(want))]) { // they change places
		for i := range min(len(have), len(want)) {
			if have[i] != want[i] {
				list = append(list, splice{old.Items[i].From, old.Items[i].To, quote(want[i], old.Flow)})
			}
		}
		gone = func(i int) bool { return i >= len(want) }
		added = want[min(len(have), len(want)):]
	}
	if old.Flow {
		var texts []string
		for _, w := range added {
			texts = append(texts, quote(w, true))
		}
		return append(list, d.removeFrom(old, spansOf(old), gone, texts)...)
	}
	for i := range old.Items {
		if gone(i) {
			list = append(list, d.removeItem(old, i))
		}
	}
	dash := strings.Repeat(" ", d.column(old.From)) + "- "
	for _, w := range added {
		list = append(list, d.insertLines(d.nextLine(old.To), dash+quote(w, false)))
	}
	return list
}

// removeItem takes a member out of a list with dashes.
func (d *doc) removeItem(n *conf.Node, i int) splice {
	return d.removeLines(d.dash(n, i), n.Items[i].To)
}

// dash is where the dash of a list's member is.
func (d *doc) dash(n *conf.Node, i int) int {
	column, at := d.column(n.From), d.lineStart(n.Items[i].From)
	for at > 0 && (at+column >= len(d.text) || d.text[at+column] != '-') {
		at = d.lineStart(at - 1)
	}
	return at + column
}
