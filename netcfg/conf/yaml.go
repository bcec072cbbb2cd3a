package conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"bulkhead/netcfg/diag"
)

// shape is what a node of the file is.
type shape uint8

const (
	empty   shape = iota // a key without a value, or null
	str                  // a string, with or without quotes
	integer              // as YAML sees it: hexadecimal, octal and all
	float
	boolean
	list
	mapping
)

var shapeNames = [...]string{"nothing", "text", "a number", "a number", "true or false", "a list", "a mapping"}

// node is a value in the file with its position.
type node struct {
	shape     shape
	line, col int
	text      string // of a scalar: what it says, quotes removed
	quoted    bool
	noted     bool    // empty, and a comment stands in its place
	items     []*node // of a list
	keys      []entry // of a mapping, in file order
}

// entry is one line of a mapping.
type entry struct{ key, value *node }

// read reads a file into nodes. Nil: there is nothing to decode, and the reason is
// among the problems. Broken names the top-level keys of which something is missing
// because it could not be read.
func read(file string, data []byte, ps *problems) (root *node, broken map[string]bool) {
	lines := text(file, data, ps)
	if lines == nil {
		return nil, nil
	}
	f := newFence(file, lines, ps)
	if f.fatal {
		return nil, nil
	}
	// The fence lets hardly anything through that the library refuses. What the
	// library refuses costs an entry, as what the fence refuses does.
	const tries = 8
	for range tries {
		src, broken := f.source()
		doc, err := parseYAML(src)
		if err == nil {
			if doc == nil && len(broken) == 0 {
				ps.add(diag.Pos{File: file, Line: 1, Col: 1}, "", "the file is empty", "start from one of the examples in configs/, such as small.yaml")
			}
			f.note(doc)
			return doc, broken
		}
		pos, msg := diag.Pos{File: file, Line: 1, Col: 1}, err.Error()
		if se, ok := errors.AsType[*syntaxError](err); ok {
			pos.Line, pos.Col, msg = se.line, se.col, se.msg
		}
		ps.add(pos, "", "not YAML: "+msg, "check indentation, colons and quotes here and in the line above")
		if !f.spoil(pos.Line) {
			break
		}
	}
	return nil, nil
}

// syntaxError is what the YAML library, or what is made of its tree, has to say.
type syntaxError struct {
	line, col int
	msg       string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.line, e.col, e.msg) }

func errorAt(tk *token.Token, format string, args ...any) error {
	e := &syntaxError{line: 1, col: 1, msg: fmt.Sprintf(format, args...)}
	if tk != nil && tk.Position != nil {
		e.line, e.col = tk.Position.Line, tk.Position.Column
	}
	return e
}

// note tells empty values that a comment stands in their place.
func (f *fence) note(n *node) {
	if n == nil || len(f.noted) == 0 {
		return
	}
	for _, item := range n.items {
		f.note(item)
	}
	for _, e := range n.keys {
		if _, found := slices.BinarySearch(f.noted, e.key.line); found && e.value.shape == empty {
			e.value.noted = true
		}
		f.note(e.value)
	}
}

// parseYAML turns text that passed the fence into nodes, nil for an empty document.
func parseYAML(src string) (root *node, err error) {
	// The last belt: a configuration comes from a person, and whatever the library
	// makes of it, the box must live on.
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, errorAt(nil, "the YAML library gave up: %v", r)
		}
	}()
	f, err := parser.Parse(lexer.Tokenize(src), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var se interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &se) {
			return nil, errorAt(se.GetToken(), "%s", se.GetMessage())
		}
		return nil, err
	}
	for _, d := range f.Docs {
		switch d.Body.(type) {
		case nil, *ast.CommentGroupNode:
			continue
		}
		if root != nil {
			return nil, errorAt(d.GetToken(), "a second document begins here")
		}
		c := converter{}
		if root, err = c.node(d.Body, 0); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// converter makes nodes, many at a time.
type converter struct{ slab []node }

func (c *converter) new(tk *token.Token, s shape) *node {
	if len(c.slab) == 0 {
		c.slab = make([]node, 256)
	}
	n := &c.slab[0]
	c.slab = c.slab[1:]
	n.shape = s
	if tk != nil && tk.Position != nil {
		n.line, n.col = tk.Position.Line, tk.Position.Column
	}
	return n
}

func (c *converter) node(n ast.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errorAt(n.GetToken(), "nested more than %d levels deep", maxDepth)
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		start := n.Start
		if !n.IsFlowStyle && len(n.Values) > 0 {
			start = n.Values[0].Key.GetToken()
		}
		m := c.new(start, mapping)
		return m, c.entries(m, n.Values, depth)
	case *ast.MappingValueNode: // a mapping of one entry
		m := c.new(n.Key.GetToken(), mapping)
		return m, c.entries(m, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		l := c.new(n.GetToken(), list)
		l.items = make([]*node, 0, len(n.Values))
		for _, v := range n.Values {
			item, err := c.node(v, depth+1)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, item)
		}
		return l, nil
	case *ast.NullNode:
		return c.new(n.GetToken(), empty), nil
	}
	return c.scalar(n)
}

func (c *converter) scalar(n ast.Node) (*node, error) {
	tk := n.GetToken()
	s := c.new(tk, str)
	s.text = tk.Value
	switch n.(type) {
	case *ast.StringNode:
		s.quoted = tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
	case *ast.IntegerNode:
		s.shape = integer
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		s.shape = float
	case *ast.BoolNode:
		s.shape = boolean
	default:
		return nil, errorAt(tk, "%s is not used in this language", strings.ToLower(n.Type().String()))
	}
	return s, nil
}

func (c *converter) entries(m *node, values []*ast.MappingValueNode, depth int) error {
	m.keys = make([]entry, 0, len(values))
	for _, v := range values {
		key, err := c.node(v.Key, depth+1)
		if err != nil {
			return err
		}
		value, err := c.node(v.Value, depth+1)
		if err != nil {
			return err
		}
		m.keys = append(m.keys, entry{key, value})
	}
	return nil
}
