package account

import (
	"errors"
	"fmt"
	"strings"
)

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
