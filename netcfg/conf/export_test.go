package conf

// Keys returns the keys of every mapping of the language, and whether each is
// required.
func Keys() map[string]map[string]bool {
	all := make(map[string]map[string]bool, len(tables))
	for table, keys := range tables {
		all[table] = make(map[string]bool, len(keys))
		for _, k := range keys {
			all[table][k.name] = k.required
		}
	}
	return all
}

// Scalar is a scalar of a file and where the parser believes it to be.
type Scalar struct {
	Line, Col int
	Text      string
	Quoted    bool
}

// Scalars returns every scalar of a file, keys included.
func Scalars(data []byte) []Scalar {
	var out []Scalar
	var walk func(*node)
	walk = func(n *node) {
		if n.shape != empty && n.shape < list {
			out = append(out, Scalar{n.line, n.col, n.text, n.quoted})
		}
		for _, i := range n.items {
			walk(i)
		}
		for _, e := range n.keys {
			walk(e.key)
			walk(e.value)
		}
	}
	if root, _ := read("", data, &problems{}); root != nil {
		walk(root)
	}
	return out
}

// Random tells whether a sentence holds something random.
var Random = random
