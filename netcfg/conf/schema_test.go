package conf_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bulkhead/netcfg/conf"
)

const schemaFile = "../../configs/bulkhead.schema.json"

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	s, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemaSays returns what an editor would say about a file: accepted, refused and
// where, or that it is no YAML.
func schemaSays(s *jsonschema.Schema, data []byte) string {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return "not read: not YAML\n"
	}
	// Through JSON, because the schema knows JSON's types only.
	j, err := json.Marshal(v)
	if err != nil {
		return "not read: not JSON\n"
	}
	if v, err = jsonschema.UnmarshalJSON(strings.NewReader(string(j))); err != nil {
		return "not read: not JSON\n"
	}
	err = s.Validate(v)
	if err == nil {
		return "accepted\n"
	}
	places := make(map[string]bool)
	collect(err.(*jsonschema.ValidationError), places)
	return "refused at " + strings.Join(slices.Sorted(maps.Keys(places)), " ") + "\n"
}

// collect gathers where a value fails, innermost places only.
func collect(e *jsonschema.ValidationError, places map[string]bool) {
	if len(e.Causes) == 0 {
		places["/"+strings.Join(e.InstanceLocation, "/")] = true
	}
	for _, c := range e.Causes {
		collect(c, places)
	}
}

func TestSchemaAcceptsTheExamples(t *testing.T) {
	s := compileSchema(t)
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := schemaSays(s, data); got != "accepted\n" {
			t.Errorf("%s: %s", file, got)
		}
	}
}

func examples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %d examples (%v)", len(files), err)
	}
	more, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(more) == 0 {
		t.Fatalf("found %d more good files (%v)", len(more), err)
	}
	return append(files, more...)
}

// schemaNode is the part of JSON Schema that the schema is made of.
type schemaNode struct {
	Ref         string                 `json:"$ref"`
	Description string                 `json:"description"`
	Properties  map[string]*schemaNode `json:"properties"`
	Required    []string               `json:"required"`
	Additional  json.RawMessage        `json:"additionalProperties"`
	Items       *schemaNode            `json:"items"`
	OneOf       []*schemaNode          `json:"oneOf"`
	Defs        map[string]*schemaNode `json:"$defs"`
	Names       *schemaNode            `json:"propertyNames"`
}

// TestSchemaKnowsTheKeys compares the keys of every mapping of the language, and
// which of them are required, in the parser and in the schema.
func TestSchemaKnowsTheKeys(t *testing.T) {
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var root schemaNode
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]map[string]bool)
	walk(t, &root, &root, "", got)
	if diff := cmp.Diff(conf.Keys(), got); diff != "" {
		t.Errorf("keys differ (-parser +schema):\n%s", diff)
	}
}

// walk notes the keys of every object with fixed keys below n, and whether each is
// required.
func walk(t *testing.T, root, n *schemaNode, path string, keys map[string]map[string]bool) {
	t.Helper()
	if n.Ref != "" {
		name := strings.TrimPrefix(n.Ref, "#/$defs/")
		if root.Defs[name] == nil {
			t.Fatalf("%s: no definition %s", path, n.Ref)
		}
		walk(t, root, root.Defs[name], path, keys)
	}
	if n.Properties != nil {
		if string(n.Additional) != "false" {
			t.Errorf("%q allows other keys", path)
		}
		keys[path] = make(map[string]bool)
		for name, p := range n.Properties {
			keys[path][name] = slices.Contains(n.Required, name)
			if p.Description == "" {
				t.Errorf("%q: %s has no description", path, name)
			}
			walk(t, root, p, strings.TrimPrefix(path+"."+name, "."), keys)
		}
		for _, name := range n.Required {
			if n.Properties[name] == nil {
				t.Errorf("%q requires %s, which it does not have", path, name)
			}
		}
	} else if len(n.Additional) > 0 && n.Additional[0] == '{' {
		if n.Names == nil {
			t.Errorf("%q does not say what its names are", path)
		}
		var sub schemaNode
		if err := json.Unmarshal(n.Additional, &sub); err != nil {
			t.Fatal(err)
		}
		walk(t, root, &sub, path+".*", keys)
	}
	if n.Items != nil {
		walk(t, root, n.Items, path+"[]", keys)
	}
	for _, s := range n.OneOf {
		if slices.ContainsFunc(n.OneOf, func(l *schemaNode) bool { return l.Items != nil && l.Items.Ref == s.Ref && s.Ref != "" }) {
			continue // one value where a list may stand
		}
		walk(t, root, s, path, keys)
	}
}

// Editors must refuse, and the parser must refuse, what a name may not be.
func TestSchemaAndParserAgreeOnNames(t *testing.T) {
	s := compileSchema(t)
	for name, want := range map[string]bool{
		"a": true, "nas": true, "nas-1": true, "a-b-c": true, strings.Repeat("a", 32): true,
		"A": false, "1a": false, "a-": false, "-a": false, "a_b": false, "a.b": false, strings.Repeat("a", 33): false, "": false,
	} {
		data := fmt.Appendf(nil, "ports: {lan: {mac: \"52:54:00:00:00:01\"}}\nzones:\n  %q: {port: lan, subnet: 10.0.0.0/24, admin: true}\n", name)
		cfg, _ := conf.Parse("names.yaml", data, now)
		if got := cfg != nil; got != want {
			t.Errorf("parser accepts %q: %v, want %v", name, got, want)
		}
		if got := schemaSays(s, data) == "accepted\n"; got != want {
			t.Errorf("schema accepts %q: %v, want %v", name, got, want)
		}
	}
}
