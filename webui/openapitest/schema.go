package openapitest

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"strings"
	"time"
)

// writer makes schemas of types, and a component of each struct with a name.
type writer struct {
	sources *Sources
	schemas object
	types   map[string]reflect.Type // by name of their component
	errs    []string
}

func (w *writer) fail(format string, args ...any) {
	w.errs = append(w.errs, fmt.Sprintf(format, args...))
}

// prefixes part types of one name, by the path of their package.
var prefixes = map[string]string{
	"bulkhead/services/flow/api":        "Flow",
	"bulkhead/services/flow/inventory":  "Seen",
	"bulkhead/netcfg/facts":             "Uplink",
	"bulkhead/services/update/api":      "Update",
	"bulkhead/services/update/manifest": "Image",
}

var (
	textual   = reflect.TypeFor[encoding.TextMarshaler]()
	marshaler = reflect.TypeFor[json.Marshaler]()
	timeType  = reflect.TypeFor[time.Time]()
)

// schema returns what JSON values of the type look like, JSON Schema 2020-12.
func (w *writer) schema(t reflect.Type) object {
	switch {
	case t.Kind() == reflect.Pointer:
		return w.schema(t.Elem())
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t.Implements(textual) || reflect.PointerTo(t).Implements(textual):
		s := object{"type": "string"}
		if d := w.sources.Type(t); d != "" {
			s["description"] = d
		}
		return s
	case t.Implements(marshaler):
		w.fail("%s writes its own JSON, which nothing here knows", t)
		return object{}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		s := object{"type": "string"}
		if values := w.sources.Values(t); values != nil {
			s["enum"] = values
		}
		return s
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 && t.Kind() == reflect.Slice {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": w.schema(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": "object", "additionalProperties": w.schema(t.Elem())}
	case reflect.Struct:
		return w.component(t)
	}
	w.fail("%s cannot be written as JSON", t)
	return object{}
}

// component returns a reference to the schema of a struct, which is made if it is new.
func (w *writer) component(t reflect.Type) object {
	name := prefixes[t.PkgPath()] + strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	switch known := w.types[name]; {
	case known == nil:
		w.types[name] = t
		w.schemas[name] = w.structure(t)
	case known != t:
		w.fail("%s and %s would both be called %s: give the package of one a prefix in %s", known, t, name, path.Base(reflect.TypeFor[writer]().PkgPath()))
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (w *writer) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	for f := range fields(t) {
		s := w.schema(f.Type)
		if d := w.sources.Field(f.owner, f.Name); d != "" {
			s["description"] = d
		}
		if f.Type.Kind() == reflect.Pointer && !f.optional {
			w.fail("%s.%s may be null: let it be left out", t, f.Name)
		}
		properties[f.json] = s
		if !f.optional {
			required = append(required, f.json)
		}
	}
	s := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	if d := w.sources.Type(t); d != "" {
		s["description"] = d
	}
	return s
}

// field is a field of a struct as JSON has it.
type field struct {
	reflect.StructField
	owner    reflect.Type // the struct, or one that is embedded in it
	json     string
	optional bool
}

// fields yields the fields that are written, those of embedded structs among them.
func fields(t reflect.Type) func(func(field) bool) {
	return func(yield func(field) bool) { walk(t, yield) }
}

func walk(t reflect.Type, yield func(field) bool) bool {
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			if !walk(f.Type, yield) {
				return false
			}
			continue
		case !f.IsExported() || tag == "-":
			continue
		case tag == "":
			tag = f.Name
		}
		if !yield(field{f, t, tag, strings.Contains(options, "omit")}) {
			return false
		}
	}
	return true
}
