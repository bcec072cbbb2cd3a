package access

import "fmt"

// Role is what a user may do.
type Role string

// The roles, each with all that the one before it may.
const (
	Viewer        Role = "viewer"   // sees everything but secrets
	Operator      Role = "operator" // isolates devices, and looks into what goes wrong
	Administrator Role = "admin"    // changes the configuration, the box, and who may come in
)

// scopesOf are what a role may. An operator does what is undone in a moment.
var scopesOf = map[Role][]Scope{
	Viewer:        {Read},
	Operator:      {Read, Plan, Operate},
	Administrator: {Admin},
}

// Scopes returns what the role may; nothing, if it is none.
func (r Role) Scopes() []Scope { return scopesOf[r] }

// Check reports what is wrong with a role.
func (r Role) Check() error {
	if scopesOf[r] == nil {
		return fmt.Errorf("there is no role %.20q: there are viewer, operator and admin", r)
	}
	return nil
}
