// Package access is who may use the management API: tokens and what they may do,
// the one-time code by which the first of them is had, and the proofs that both
// ends of a connection know that code.
//
// It never opens a connection, and never keeps or logs a token or a code in a form
// that lets anybody in: on disk there are hashes, in memory the code that is on the
// console.
package access

import (
	"slices"
	"strings"
)

// Scope is a part of the API.
type Scope string

// The scopes. Each stands for itself, but for Admin, which is all of them.
const (
	Read    Scope = "read"    // see how the box is
	Operate Scope = "operate" // isolate devices and look into what goes wrong
	Plan    Scope = "plan"    // ask what a change would do
	Apply   Scope = "apply"   // change the configuration
	Update  Scope = "update"  // write another image
	Admin   Scope = "admin"   // everything, the keys and tokens included
)

var scopes = []Scope{Read, Operate, Plan, Apply, Update, Admin}

// Scopes returns all scopes there are.
func Scopes() []Scope { return slices.Clone(scopes) }

// ScopeNames returns the names of all scopes, for people.
func ScopeNames() string {
	names := make([]string, len(scopes))
	for i, s := range scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// Allow reports whether who holds the scopes may use what needs one of them.
func Allow(held []Scope, need Scope) bool {
	return slices.Contains(held, need) || slices.Contains(held, Admin)
}
