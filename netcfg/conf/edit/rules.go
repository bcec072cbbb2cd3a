package edit

import (
	"slices"
	"time"

	"bulkhead/netcfg/model"
)

// List is a list of rules.
type List string

// The lists of rules.
const (
	Allow List = "allow"
	Block List = "block"
)

// Rule is a line of allow or block, as it is written. What is empty is not in the file.
type Rule struct {
	Name                string
	From, To, Protocols []string
	Why, Owner          string
	Expires             string // the last day: 2027-01-31
}

// RuleOf is a rule as it is written.
func RuleOf(r *model.Rule) Rule {
	return Rule{
		r.Name, slices.Clone(r.FromNames), slices.Clone(r.ToNames), slices.Clone(r.Protocols), r.Why, r.Owner, LastDay(r.Until),
	}
}

// LastDay writes the last day before an instant at which something is over; "" for never.
func LastDay(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	return until.Add(-time.Second).Format(time.DateOnly)
}

func (r Rule) keys() []key {
	return []key{
		{"name", words(r.Name)}, {"from", words(r.From...)}, {"to", words(r.To...)}, {"protocols", listed(r.Protocols)},
		{"why", words(r.Why)}, {"owner", words(r.Owner)}, {"expires", words(r.Expires)},
	}
}

// AddRule puts a rule at the end of a list.
func AddRule(l List, r Rule) Edit { return addMember(string(l), r.Name, r.keys()) }

// SetRule has the rule of a name say what r says; it may get another name.
func SetRule(l List, name string, r Rule) Edit {
	return setMember(string(l), "rule", name, r.Name, r.keys())
}

// RemoveRule takes a rule out.
func RemoveRule(l List, name string) Edit { return removeMember(string(l), "rule", name) }

// Forward is a line of forwards, as it is written.
type Forward struct {
	Name      string
	Protocols []string
	To        string // name of a device
	Owner     string
	Why       string
	Expires   string // the last day: 2027-01-31
}

// ForwardOf is a forward as it is written.
func ForwardOf(f *model.Forward) Forward {
	return Forward{f.Name, slices.Clone(f.Protocols), f.To.Name, f.Owner, f.Why, LastDay(f.Until)}
}

func (f Forward) keys() []key {
	return []key{
		{"name", words(f.Name)}, {"protocols", listed(f.Protocols)}, {"to", words(f.To)},
		{"owner", words(f.Owner)}, {"why", words(f.Why)}, {"expires", words(f.Expires)},
	}
}

// AddForward puts a forward at the end of the list.
func AddForward(f Forward) Edit { return addMember("forwards", f.Name, f.keys()) }

// SetForward has the forward of a name say what f says; it may get another name.
func SetForward(name string, f Forward) Edit {
	return setMember("forwards", "forward", name, f.Name, f.keys())
}

// RemoveForward takes a forward out.
func RemoveForward(name string) Edit { return removeMember("forwards", "forward", name) }

// setMember sets the keys of a member of a list, its name last: until then it is known by
// the old one.
func setMember(section, noun, name, newName string, keys []key) Edit {
	e := setKeys([]string{section, name}, keys[1:]...)
	rename := setKeys([]string{section, name}, keys[0])
	inner := e.means
	e.steps = append(e.steps, rename.steps...)
	e.means = func(list []leaf) []leaf {
		list = rename.means(inner(list))
		for i, l := range list {
			if old := pathOf(section, name); l.under(old) {
				list[i].path = pathOf(section, newName) + l.path[len(old):]
			}
		}
		return list
	}
	return present(section, noun, name, e)
}
