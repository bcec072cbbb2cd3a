package conf

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"bulkhead/netcfg/diag"
)

// Kind is what a [Node] is.
type Kind uint8

// The kinds of nodes.
const (
	Nothing Kind = iota // a key without a value, or null
	Text
	Number
	Bool
	List
	Mapping
)

var kinds = [...]Kind{empty: Nothing, str: Text, integer: Number, float: Number, boolean: Bool, list: List, mapping: Mapping}

// Node is a value of a file and where its text stands: for package edit, which changes
// the text and must know what it means.
type Node struct {
	Kind     Kind
	Text     string // of a scalar: what it says, quotes removed
	From, To int    // bytes of the file; of Nothing: none
	Flow     bool   // a list in brackets or a mapping in braces
	Items    []*Node
	Keys     []Entry // in file order
}

// Entry is a key of a mapping and its value.
type Entry struct{ Key, Value *Node }

// Get returns the value of a key, or nil.
func (n *Node) Get(key string) *Node {
	for _, e := range n.Keys {
		if e.Key.Text == key {
			return e.Value
		}
	}
	return nil
}

// Outline reads a file as [Parse] does, and tells where its values stand. It does not say
// what they mean, nor whether they mean anything.
func Outline(file string, data []byte) (*Node, error) {
	var ps problems
	root, broken := read(file, data, &ps)
	if err := ps.list(file).Err(); err != nil {
		return nil, err
	}
	if root == nil || len(broken) > 0 {
		return nil, fmt.Errorf("%s cannot be read", diag.Pos{File: file, Line: 1, Col: 1})
	}
	o := outliner{text: string(data), starts: []int{0}}
	if strings.HasPrefix(o.text, "\ufeff") {
		o.starts[0] = len("\ufeff") // not a character of the line
	}
	for i := range len(o.text) {
		if o.text[i] == '\n' {
			o.starts = append(o.starts, i+1)
		}
	}
	return o.node(root, false)
}

// outliner finds the text of nodes. The fence has let through what it can find only.
type outliner struct {
	text   string
	starts []int // of each line
}

func (o *outliner) node(n *node, inFlow bool) (*Node, error) {
	out := &Node{Kind: kinds[n.shape], Text: n.text}
	if n.shape == empty {
		return out, nil
	}
	if out.From = o.offset(n); out.From < 0 {
		return nil, o.lost(n)
	}
	if n.shape < list {
		out.To = o.scalarEnd(out.From, inFlow)
		if t := o.text[out.From:out.To]; t == "" || n.quoted != (t[0] == '"' || t[0] == '\'') || !n.quoted && t != n.text {
			return nil, o.lost(n)
		}
		return out, nil
	}
	c := o.text[out.From]
	out.Flow = c == '[' && n.shape == list || c == '{' && n.shape == mapping
	out.To = out.From
	for _, item := range n.items {
		i, err := o.node(item, out.Flow)
		if err != nil {
			return nil, err
		}
		out.Items, out.To = append(out.Items, i), max(out.To, i.To)
	}
	for _, e := range n.keys {
		key, err := o.node(e.key, out.Flow)
		if err != nil {
			return nil, err
		}
		value, err := o.node(e.value, out.Flow)
		if err != nil {
			return nil, err
		}
		out.Keys, out.To = append(out.Keys, Entry{key, value}), max(out.To, key.To, value.To)
	}
	if out.Flow {
		if out.To = o.closing(max(out.To, out.From+1)); out.To < 0 {
			return nil, o.lost(n)
		}
	}
	return out, nil
}

func (o *outliner) lost(n *node) error {
	return fmt.Errorf("line %d, column %d: the text of a value cannot be told from what is around it", n.line, n.col)
}

// offset returns the byte at which a node begins, or -1.
func (o *outliner) offset(n *node) int {
	if n.line < 1 || n.line > len(o.starts) {
		return -1
	}
	at := o.starts[n.line-1]
	for range n.col - 1 {
		_, size := utf8.DecodeRuneInString(o.text[at:])
		at += size
	}
	if at >= len(o.text) {
		return -1
	}
	return at
}

// scalarEnd returns where the scalar ends that begins at byte i.
func (o *outliner) scalarEnd(i int, inFlow bool) int {
	end := i
	quote := o.text[i]
	if quote == '"' || quote == '\'' {
		for j := i + 1; j < len(o.text) && o.text[j] != '\n'; j++ {
			switch {
			case o.text[j] == '\\' && quote == '"':
				j++
			case o.text[j] == '\'' && quote == '\'' && strings.HasPrefix(o.text[j+1:], "'"):
				j++
			case o.text[j] == quote:
				return j + 1
			}
		}
		return i
	}
	for j := i; j < len(o.text); j++ {
		c := o.text[j]
		next := byte('\n')
		if j+1 < len(o.text) {
			next = o.text[j+1]
		}
		switch {
		case c == '\n', c == '\r', c == '\t',
			c == '#' && j > i && o.text[j-1] == ' ',
			inFlow && strings.IndexByte(",[]{}", c) >= 0,
			c == ':' && (strings.IndexByte(" \r\n", next) >= 0 || inFlow && strings.IndexByte(",[]{}", next) >= 0):
			return end
		}
		if c != ' ' {
			end = j + 1
		}
	}
	return end
}

// closing returns the byte behind the bracket that comes next, or -1. Only spaces, commas
// and comments may stand before it.
func (o *outliner) closing(i int) int {
	for ; i < len(o.text); i++ {
		switch o.text[i] {
		case ' ', '\t', '\r', '\n', ',':
		case '#':
			end := strings.IndexByte(o.text[i:], '\n')
			if end < 0 {
				return -1
			}
			i += end
		case ']', '}':
			return i + 1
		default:
			return -1
		}
	}
	return -1
}
