package openapitest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Sources are what the comments in Go files say, and the values of constants that have
// a type of their own.
type Sources struct {
	comments map[string]string   // by package path and type, perhaps with ".Field"
	values   map[string][]string // by package path and type
}

// ReadSources reads the packages of the module below root.
func ReadSources(root, module string) (*Sources, error) {
	s := &Sources{map[string]string{}, map[string][]string{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != root || d.IsDir() && slices.Contains([]string{"testdata", "out", "bin"}, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s.file(path.Join(module, filepath.ToSlash(dir)), f)
		return nil
	})
	return s, err
}

func (s *Sources) file(pkg string, f *ast.File) {
	imports := map[string]string{}
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value) // the parser has read it
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = p
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				s.typ(pkg, g, spec)
			case *ast.ValueSpec:
				s.constant(pkg, imports, spec)
			}
		}
	}
}

func (s *Sources) typ(pkg string, g *ast.GenDecl, t *ast.TypeSpec) {
	doc := t.Doc
	if doc == nil {
		doc = g.Doc
	}
	key := pkg + "." + t.Name.Name
	s.comments[key] = text(doc)
	st, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		for _, name := range f.Names {
			s.comments[key+"."+name.Name] = text(f.Doc, f.Comment)
		}
	}
}

// constant notes exported string constants that are declared with their type.
func (s *Sources) constant(pkg string, imports map[string]string, v *ast.ValueSpec) {
	key := ""
	switch t := v.Type.(type) {
	case *ast.Ident:
		key = pkg + "." + t.Name
	case *ast.SelectorExpr:
		if x, ok := t.X.(*ast.Ident); ok {
			key = imports[x.Name] + "." + t.Sel.Name
		}
	}
	for i, e := range v.Values {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING || key == "" || !v.Names[i].IsExported() {
			continue
		}
		value, _ := strconv.Unquote(lit.Value) // the parser has read it
		s.values[key] = append(s.values[key], value)
	}
}

func text(groups ...*ast.CommentGroup) string {
	var all []string
	for _, g := range groups {
		if t := strings.TrimSpace(g.Text()); t != "" {
			all = append(all, t)
		}
	}
	return strings.Join(all, "\n")
}

func name(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

// Type returns what is said of a type.
func (s *Sources) Type(t reflect.Type) string { return s.comments[name(t)] }

// Field returns what is said of a field.
func (s *Sources) Field(t reflect.Type, field string) string { return s.comments[name(t)+"."+field] }

// Values returns the constants of a type in order, or nil if it has none.
func (s *Sources) Values(t reflect.Type) []string {
	list := slices.Clone(s.values[name(t)])
	slices.Sort(list)
	return slices.Compact(list)
}
