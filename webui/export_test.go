//go:build linux

package webui

import (
	"reflect"

	"bulkhead/webui/openapitest"
)

// OpenAPI is the document that is served.
var OpenAPI = openapi

// Failure is the type of the body of answers that are none.
var Failure = reflect.TypeFor[failure]()

// Endpoints returns the API in the words of the document.
func Endpoints() []openapitest.Operation {
	var list []openapitest.Operation
	for _, e := range endpoints {
		op := openapitest.Operation{Method: e.method(), Path: e.path(), Query: e.query(), Scope: string(e.scope), Summary: e.summary, Refuses: e.statuses()}
		if e.out != nil {
			op.Out = reflect.TypeOf(e.out)
		}
		if _, op.Upload = e.in.(image); e.in != nil && !op.Upload {
			op.In = reflect.TypeOf(e.in)
		}
		list = append(list, op)
	}
	return list
}
