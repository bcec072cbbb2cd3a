package plan

import (
	"encoding/json"
	"fmt"

	"bulkhead/netcfg/state"
)

// Op names a kind of change, in JSON and in logs.
type Op string

// The kinds of changes.
const (
	OpCreateLink   Op = "create-link"
	OpDeleteLink   Op = "delete-link"
	OpSetUp        Op = "set-link-up"
	OpSetMTU       Op = "set-link-mtu"
	OpSetAlias     Op = "set-link-alias"
	OpAddAddr      Op = "add-address"
	OpDeleteAddr   Op = "delete-address"
	OpAddRoute     Op = "add-route"
	OpDeleteRoute  Op = "delete-route"
	OpReplaceRoute Op = "replace-route"
	OpSetSysctl    Op = "set-sysctl"
	OpLoadRuleset  Op = "load-ruleset"
)

// Change is one change to the kernel. The types below are all there are. Each
// holds what was there before, so that it can be undone without looking it up.
type Change interface {
	Op() Op

	// inverse returns the change that takes this one back, and false if what was
	// there before is not known well enough.
	inverse() (Change, bool)

	// link names the link that the change touches; "" for none.
	link() string
}

// CreateLink makes a VLAN link with its alias and, unless 0, its MTU. It is down
// at first, whatever Link.Up says.
type CreateLink struct {
	Link state.Link `json:"link"`
}

// DeleteLink removes a VLAN link of ours.
type DeleteLink struct {
	Link state.Link `json:"link"`
}

// SetUp switches a link on or off.
type SetUp struct {
	Link string `json:"link"`
	Up   bool   `json:"up"`
}

// SetMTU sets the largest packet that a link carries, in bytes.
type SetMTU struct {
	Link string `json:"link"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// SetAlias marks a link as ours, for a purpose, or removes the mark.
type SetAlias struct {
	Link string `json:"link"`
	From string `json:"from"`
	To   string `json:"to"`
}

// AddAddr gives a link an address.
type AddAddr struct {
	Addr state.Addr `json:"addr"`
}

// DeleteAddr takes exactly that address from a link: others of the same subnet
// stay, though Linux left alone would remove some of them with it.
type DeleteAddr struct {
	Addr state.Addr `json:"addr"`
}

// AddRoute adds a route with our protocol number.
type AddRoute struct {
	Route state.Route `json:"route"`
}

// DeleteRoute removes a route with our protocol number.
type DeleteRoute struct {
	Route state.Route `json:"route"`
}

// ReplaceRoute changes the way to one destination, without a moment in which
// there is none.
type ReplaceRoute struct {
	From state.Route `json:"from"`
	To   state.Route `json:"to"`
}

// SetSysctl sets a kernel setting. From is "" if the old value is not known.
type SetSysctl struct {
	Key  string `json:"key"`
	From string `json:"from"`
	To   string `json:"to"`
}

// LoadRuleset replaces the packet filter's table as a whole, in one transaction.
// It removes the table if To has neither table nor digest.
type LoadRuleset struct {
	From state.Ruleset `json:"from"`
	To   state.Ruleset `json:"to"`
}

func (CreateLink) Op() Op   { return OpCreateLink }   // Op implements [Change].
func (DeleteLink) Op() Op   { return OpDeleteLink }   // Op implements [Change].
func (SetUp) Op() Op        { return OpSetUp }        // Op implements [Change].
func (SetMTU) Op() Op       { return OpSetMTU }       // Op implements [Change].
func (SetAlias) Op() Op     { return OpSetAlias }     // Op implements [Change].
func (AddAddr) Op() Op      { return OpAddAddr }      // Op implements [Change].
func (DeleteAddr) Op() Op   { return OpDeleteAddr }   // Op implements [Change].
func (AddRoute) Op() Op     { return OpAddRoute }     // Op implements [Change].
func (DeleteRoute) Op() Op  { return OpDeleteRoute }  // Op implements [Change].
func (ReplaceRoute) Op() Op { return OpReplaceRoute } // Op implements [Change].
func (SetSysctl) Op() Op    { return OpSetSysctl }    // Op implements [Change].
func (LoadRuleset) Op() Op  { return OpLoadRuleset }  // Op implements [Change].

func (c CreateLink) link() string   { return c.Link.Name }
func (c DeleteLink) link() string   { return c.Link.Name }
func (c SetUp) link() string        { return c.Link }
func (c SetMTU) link() string       { return c.Link }
func (c SetAlias) link() string     { return c.Link }
func (c AddAddr) link() string      { return c.Addr.Link }
func (c DeleteAddr) link() string   { return c.Addr.Link }
func (c AddRoute) link() string     { return c.Route.Link }
func (c DeleteRoute) link() string  { return c.Route.Link }
func (c ReplaceRoute) link() string { return c.To.Link }
func (c SetSysctl) link() string    { return LinkOfSysctl(c.Key) }
func (LoadRuleset) link() string    { return "" }

func (c CreateLink) inverse() (Change, bool)   { return DeleteLink(c), true }
func (c DeleteLink) inverse() (Change, bool)   { return CreateLink(c), true }
func (c SetUp) inverse() (Change, bool)        { return SetUp{c.Link, !c.Up}, true }
func (c SetMTU) inverse() (Change, bool)       { return SetMTU{c.Link, c.To, c.From}, c.From != 0 }
func (c SetAlias) inverse() (Change, bool)     { return SetAlias{c.Link, c.To, c.From}, true }
func (c AddAddr) inverse() (Change, bool)      { return DeleteAddr(c), true }
func (c DeleteAddr) inverse() (Change, bool)   { return AddAddr(c), true }
func (c AddRoute) inverse() (Change, bool)     { return DeleteRoute(c), true }
func (c DeleteRoute) inverse() (Change, bool)  { return AddRoute(c), true }
func (c ReplaceRoute) inverse() (Change, bool) { return ReplaceRoute{c.To, c.From}, true }
func (c SetSysctl) inverse() (Change, bool)    { return SetSysctl{c.Key, c.To, c.From}, c.From != "" }

// A table whose content is not at hand cannot be loaded again. The inverse would be
// to remove the new one, and that opens the door it closed.
func (c LoadRuleset) inverse() (Change, bool) {
	return LoadRuleset{c.To, c.From}, !c.From.Present() || c.From.Known()
}

// decodeChange reads the JSON of a change of the given kind.
func decodeChange(op Op, data []byte) (Change, error) {
	switch op {
	case OpCreateLink:
		return decode[CreateLink](data)
	case OpDeleteLink:
		return decode[DeleteLink](data)
	case OpSetUp:
		return decode[SetUp](data)
	case OpSetMTU:
		return decode[SetMTU](data)
	case OpSetAlias:
		return decode[SetAlias](data)
	case OpAddAddr:
		return decode[AddAddr](data)
	case OpDeleteAddr:
		return decode[DeleteAddr](data)
	case OpAddRoute:
		return decode[AddRoute](data)
	case OpDeleteRoute:
		return decode[DeleteRoute](data)
	case OpReplaceRoute:
		return decode[ReplaceRoute](data)
	case OpSetSysctl:
		return decode[SetSysctl](data)
	case OpLoadRuleset:
		return decode[LoadRuleset](data)
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

func decode[C Change](data []byte) (Change, error) {
	var c C
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	return c, nil
}
