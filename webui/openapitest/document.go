// Package openapitest writes an OpenAPI document from Go types, and values of such types
// to try it with. What the document says of types and their fields is what their
// comments say. Only tests import it: it reads sources.
package openapitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Operation is one thing that can be asked.
type Operation struct {
	Method, Path string   // the parts of the path that vary are in braces
	Query        []string // names of parameters; those that are needed end in "="
	Scope        string   // of the token; "": none is needed
	Summary      string
	In, Out      reflect.Type // of JSON bodies; nil: none
	Upload       bool         // the body is bytes
	Lines        bool         // the answer is a value in each line
	File         string       // the answer is a file of that media type; "": it is not
	Refuses      []int        // HTTP statuses of answers that are none
}

// Type returns the media type of the answer.
func (op Operation) Type() string {
	switch {
	case op.Lines:
		return "application/x-ndjson"
	case op.File != "":
		return op.File
	}
	return "application/json"
}

// API is all there is.
type API struct {
	Title, Description, Version string
	Failure                     reflect.Type   // body of answers that are none
	Meanings                    map[int]string // of HTTP statuses
	Operations                  []Operation
}

// object is a JSON object, which is written with sorted keys.
type object = map[string]any

// Document returns the document, OpenAPI 3.1. Sources are where comments are read.
func (a API) Document(s *Sources) ([]byte, error) {
	w := writer{sources: s, schemas: object{}, types: map[string]reflect.Type{}}
	paths := object{}
	for _, op := range a.Operations {
		item, _ := paths[op.Path].(object)
		if item == nil {
			item = object{}
			paths[op.Path] = item
		}
		item[strings.ToLower(op.Method)] = w.operation(op, a.Meanings)
	}
	failure := w.schema(a.Failure)
	if len(w.errs) > 0 {
		return nil, fmt.Errorf("no document: %s", strings.Join(w.errs, "; "))
	}
	text, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info":    object{"title": a.Title, "description": a.Description, "version": a.Version},
		"servers": []object{{"url": "/", "description": "The box, at its address in an admin zone"}},
		"paths":   paths,
		"components": object{
			"schemas":         w.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"responses":       object{"Failure": object{"description": "No answer, and why", "content": content(failure)}},
		},
	}, "", "  ")
	return append(text, '\n'), err
}

func content(schema object) object { return object{"application/json": object{"schema": schema}} }

var braces = regexp.MustCompile(`\{(\w+)\}`)

func (w *writer) operation(op Operation, meanings map[int]string) object {
	responses := object{}
	ok := object{"description": "Done"}
	if op.Out != nil {
		ok["content"] = object{op.Type(): object{"schema": w.schema(op.Out)}}
	}
	if op.File != "" {
		ok["content"] = object{op.File: object{}}
	}
	responses["200"] = ok
	for _, status := range op.Refuses {
		if meanings[status] == "" {
			w.fail("status %d of %s has no meaning", status, op.Path)
		}
		responses[strconv.Itoa(status)] = object{"$ref": "#/components/responses/Failure", "description": meanings[status]}
	}
	o := object{"operationId": id(op), "summary": op.Summary, "responses": responses, "security": []object{}}
	if op.Scope != "" {
		o["security"] = []object{{"token": []string{op.Scope}}}
	}
	if op.In != nil {
		o["requestBody"] = object{"required": true, "content": content(w.schema(op.In))}
	}
	if op.Upload {
		o["requestBody"] = object{"required": true, "content": object{"application/octet-stream": object{}}}
	}
	var parameters []object
	for _, m := range braces.FindAllStringSubmatch(op.Path, -1) {
		parameters = append(parameters, parameter(m[1], "path", true))
	}
	for _, name := range op.Query {
		name, needed := strings.CutSuffix(name, "=")
		parameters = append(parameters, parameter(name, "query", needed))
	}
	if parameters != nil {
		o["parameters"] = parameters
	}
	return o
}

func parameter(name, in string, needed bool) object {
	return object{"name": name, "in": in, "required": needed, "schema": object{"type": "string"}}
}

// id is a name for programs that are made from the document: getHistoryNumber.
func id(op Operation) string {
	words := regexp.MustCompile(`[a-z0-9]+`).FindAllString(strings.ToLower(op.Path), -1)
	words = slices.DeleteFunc(words, func(s string) bool { return s == "api" || s == "v1" })
	for i, s := range words {
		words[i] = strings.ToUpper(s[:1]) + s[1:]
	}
	return strings.ToLower(op.Method) + strings.Join(words, "")
}

// Strict makes the schemas of a document refuse fields that they do not name: what is
// welcome in the answer of a newer box is a mistake in a test.
func Strict(document []byte) ([]byte, error) {
	var doc object
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	schemas, _ := doc["components"].(object)["schemas"].(object)
	for _, s := range slices.Collect(maps.Values(schemas)) {
		if s := s.(object); s["properties"] != nil {
			s["additionalProperties"] = false
		}
	}
	return json.Marshal(doc)
}
