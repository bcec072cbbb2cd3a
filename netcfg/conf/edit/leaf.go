package edit

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"bulkhead/netcfg/conf"
)

// leaf is one thing that a file says: a word under a path. The paths of rules have their
// names instead of their places, which mean nothing.
type leaf struct {
	path string
	kind conf.Kind
	text string
}

// sep stands between the parts of a path. No key that conf takes has it.
const sep = "\x00"

func pathOf(parts ...string) string { return strings.Join(parts, sep) }

// under reports whether a leaf stands at a path or below it.
func (l leaf) under(path string) bool { return l.path == path || strings.HasPrefix(l.path, path+sep) }

// without are the leaves that stand elsewhere.
func without(list []leaf, path string) []leaf {
	return slices.DeleteFunc(slices.Clone(list), func(l leaf) bool { return l.under(path) })
}

// leaves are what a text says, whichever way.
func (d *doc) leaves() (list []leaf) {
	d.walk(func(path string, n *conf.Node) { list = append(list, leaf{path, n.Kind, n.Text}) })
	return list
}

// walk calls f with every scalar of a text but for keys. That of a key that has only one
// stands where the first of a list would: it means the same.
func (d *doc) walk(f func(path string, n *conf.Node)) {
	var walk func(path string, n *conf.Node)
	walk = func(path string, n *conf.Node) {
		switch n.Kind {
		case conf.Nothing:
		case conf.List:
			for i, item := range n.Items {
				at := pathOf(path, "#"+strconv.Itoa(i))
				if name := item.Get("name"); name != nil {
					at = pathOf(path, name.Text)
				}
				if item.Kind >= conf.List {
					walk(at, item)
				} else {
					f(at, item)
				}
			}
		case conf.Mapping:
			for _, e := range n.Keys {
				walk(pathOf(path, e.Key.Text), e.Value)
			}
		default:
			f(pathOf(path, "#0"), n)
		}
	}
	for _, e := range d.root.Keys {
		walk(e.Key.Text, e.Value)
	}
}

// same reports whether two files say the same.
func same(a, b []leaf) bool {
	order := func(a, b leaf) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.kind, b.kind), cmp.Compare(a.text, b.text))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
