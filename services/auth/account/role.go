package account

import (
	"errors"
	"fmt"
	"strings"
)

// Role is what a user may do.
type Role string

// The roles, each with all that the one before it may.
const (
	Viewer   Role = "viewer"   // sees everything but secrets
	Operator Role = "operator" // isolates devices, frees leases, looks into what goes wrong
	Admin    Role = "admin"    // changes the configuration, the box, and who may come in
)

var roles = []Role{Viewer, Operator, Admin}

// Check reports what is wrong with a role.
func (r Role) check() error {
	for _, known := range roles {
		if r == known {
			return nil
		}
	}
	return fmt.Errorf("there is no role %.20q: there are viewer, operator and admin", r)
}

// maxName bounds the name of a user, in bytes.
const maxName = 32

// checkName reports what is wrong with a user's name, which people type and read in logs.
func checkName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789.-_@"
	switch {
	case name == "":
		return errors.New("a user needs a name")
	case len(name) > maxName:
		return fmt.Errorf("the name is longer than %d characters", maxName)
	case strings.Trim(name, letters) != "":
		return errors.New("a user's name is of lower-case letters, digits and . - _ @")
	case name[0] < 'a' || name[0] > 'z':
		return errors.New("a user's name begins with a letter")
	}
	return nil
}
