// Package api is how programs talk to netcfgd: JSON over HTTP on a unix socket that
// only root and webuid may open. It holds the types, the server and the client. It never
// decides anything: netcfgd does, behind [Backend].
package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

// SocketFile is the socket's name in the run directory.
const SocketFile = "netcfgd.sock"

// MaxFile is the largest configuration file that is taken, in bytes. It is above
// what conf reads, so that conf says what is wrong with a file that is too large.
const MaxFile = 4 << 20

// Backend answers the questions that come over the socket. Its methods are called
// concurrently. They return a [*Refused] for a configuration that cannot be used,
// a [*Busy] while another change is pending, an error wrapping [ErrUnknown] for names
// that mean nothing or [ErrInvalid] for what can never be, and any other error for what
// went wrong on the box.
type Backend interface {
	Status(context.Context) (*Status, error)
	Zones(context.Context) ([]Zone, error)
	Rules(context.Context) (*Rules, error)
	Matrix(context.Context) (*Matrix, error)
	Compiled(ctx context.Context, from, to string) (*Compiled, error)
	CellRules(ctx context.Context, from, to string) (*CellRules, error)
	Devices(context.Context) ([]Device, error)
	Leases(context.Context) ([]svcconf.Lease, error)
	// LeaseHistory is of a device of the configuration, of a MAC, or of everybody for "".
	LeaseHistory(ctx context.Context, device string) (*svcconf.LeaseHistory, error)
	Drift(context.Context) ([]Drift, error) // newest first
	Why(ctx context.Context, from, to, protocol string) (*Why, error)
	Contacts(ctx context.Context, of string) (*Contacts, error)
	Plan(context.Context, Proposal) (*Plan, error)
	Apply(context.Context, Change) (*Trial, error)
	Undo(context.Context, Undo) (*Trial, error)
	Pending(context.Context) (*Trials, error)
	Confirm(context.Context, Confirm) (*Confirmed, error)
	Cancel(context.Context, Cancel) (*Outcome, error)
	History(context.Context) ([]Entry, error) // newest first, without the files and what they made possible
	Entry(ctx context.Context, number int) (*Entry, error)
	Diff(ctx context.Context, from, to int) (*Diff, error)
	Vault
	Quarantine
	Keeper
}

var (
	// ErrUnknown says that a name is none of the configuration's, a protocol none
	// there is, or a change none of the history.
	ErrUnknown = errors.New("unknown name")
	// ErrNothing says that there is nothing to undo, to confirm or to cancel.
	ErrNothing = errors.New("nothing to undo")
	// ErrInvalid says that what was asked for was understood, and cannot be as it is.
	ErrInvalid = errors.New("that cannot be")
)

// Unknown makes an error that is [ErrUnknown] and says what err says.
func Unknown(err error) error { return &told{err.Error(), ErrUnknown} }

// told is an error with a text of its own.
type told struct {
	msg  string
	kind error
}

func (t *told) Error() string { return t.msg }
func (t *told) Unwrap() error { return t.kind }

// File is a configuration file.
type File struct {
	Name string `json:"name"` // for positions in what is said about it
	Data []byte `json:"data"`
}

// Proposal is a configuration file that somebody thinks of putting into force.
type Proposal struct {
	File
	Ruleset bool   `json:"ruleset,omitempty"` // say how the packet filter's rules would differ
	Origin  Origin `json:"origin,omitzero"`
}

// Mode is what the box does as a whole.
type Mode string

// The modes.
const (
	Running Mode = "running" // the confirmed configuration is in force
	Setup   Mode = "setup"   // there never was a configuration: as closed, and one port is an admin zone
	Closed  Mode = "closed"  // nothing is forwarded; at most the admin zones reach the box
)

// Status is how the box is.
type Status struct {
	Name      string       `json:"name,omitempty"`     // of the box
	Timezone  string       `json:"timezone,omitempty"` // in which people read times: system.timezone of the file
	Mode      Mode         `json:"mode"`
	Reason    string       `json:"reason,omitempty"` // why it is closed, or what to do in setup
	Now       time.Time    `json:"now"`              // by which rules end: never before the latest time seen
	Started   time.Time    `json:"started"`          // netcfgd
	Confirmed *Confirmed   `json:"confirmed,omitempty"`
	Pending   *Pending     `json:"pending,omitempty"` // the change in force that is not confirmed, if any
	Last      *Outcome     `json:"last,omitempty"`    // what became of the last change that was tried
	Digest    string       `json:"digest,omitempty"`  // of the confirmed file if it is in force: SHA-256, hexadecimal
	Applied   bool         `json:"applied"`           // the last round found the network as it should be, or made it so
	Untaken   []string     `json:"untaken,omitempty"` // services that have not acknowledged what they were last told; perhaps they do not run
	Uplink    *facts.Lease `json:"uplink,omitempty"`
	NoUplink  bool         `json:"noUplink,omitempty"` // the configuration has none
	Missing   []string     `json:"missing,omitempty"`  // what the configuration names and the box does not have
	Troubles  []string     `json:"troubles,omitempty"` // errors of the last round; they are retried
	Warnings  diag.List    `json:"warnings,omitempty"` // about the confirmed file
	Damage    []string     `json:"damage,omitempty"`   // what is wrong with the history on disk, and what is used instead
	Push      *Push        `json:"push,omitempty"`     // how the history is taken elsewhere; nil: it is not
	Next      *time.Time   `json:"next,omitempty"`     // when the next rule ends
	Repaired  *Repair      `json:"repaired,omitempty"` // the last drift that was put right
	Repairs   uint64       `json:"repairs"`            // how many steps of drift were put right since the start
	Isolated  []string     `json:"isolated,omitempty"` // machines that are kept from everybody, as they were called
	Overdue   []string     `json:"overdue,omitempty"`  // secrets that have had their value for more than a year
	Cut       uint64       `json:"cut"`                // connections ended because no rule allows them any more, since the start
}

// Confirmed is the change that was confirmed last: it is in force, unless another is
// pending.
type Confirmed struct {
	Number int       `json:"number"`
	Time   time.Time `json:"time"`
	Author string    `json:"author,omitempty"`
	Via    Via       `json:"via,omitempty"`
	Why    string    `json:"why,omitempty"`
}

// Repair is drift that netcfgd found and put right.
type Repair struct {
	Time  time.Time `json:"time"`
	Steps []string  `json:"steps"`
	Found []string  `json:"found,omitempty"` // what was put right, or the first of it
}

// Drift is one thing that somebody else has changed in what Bulkhead owns.
type Drift struct {
	What     string    `json:"what"`              // how it was found: "address 10.9.9.9/24 was added to trunk.10"
	By       string    `json:"by,omitempty"`      // who did it last, if the kernel told: "nft (process 4711)"
	Noticed  time.Time `json:"noticed"`           // first
	Last     time.Time `json:"last"`              // when it was last noticed
	Times    int       `json:"times"`             // how often, if not hours apart: each was put right
	Repaired time.Time `json:"repaired,omitzero"` // zero: it could not be put right yet
}

// Zone is one zone.
type Zone struct {
	Name    string       `json:"name"`
	Port    string       `json:"port"`
	VLAN    uint16       `json:"vlan,omitempty"`
	Link    string       `json:"link,omitempty"` // in the kernel; "" if there is none
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	Admin   bool         `json:"admin,omitempty"`
	DHCP    bool         `json:"dhcp,omitempty"`
	DNS     bool         `json:"dns,omitempty"`
	Devices int          `json:"devices"` // in the inventory
	Leases  int          `json:"leases"`
}

// Rules is the policy with what the kernel counted.
type Rules struct {
	Rules   []Rule    `json:"rules"`
	Refused []Counter `json:"refused"`
}

// Rule is one allow, block or forward of the file.
type Rule struct {
	Kind      string    `json:"kind"` // allow, block, forward
	Name      string    `json:"name"`
	From      []string  `json:"from"`
	To        []string  `json:"to"`
	Protocols []string  `json:"protocols"`
	Why       string    `json:"why"`
	Owner     string    `json:"owner,omitempty"`
	Until     time.Time `json:"until,omitzero"` // first instant at which it is gone
	Expired   bool      `json:"expired,omitempty"`
	Pos       diag.Pos  `json:"pos"`
}

// Counter is what was refused from one party to another since the ruleset was
// first loaded.
type Counter struct {
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Device is one device of the inventory.
type Device struct {
	Name     string     `json:"name"`
	Zone     string     `json:"zone"`
	MAC      model.MAC  `json:"mac"`
	Address  netip.Addr `json:"address,omitzero"`
	Given    bool       `json:"given,omitempty"` // the address is not in the file: the box chose it
	Owner    string     `json:"owner,omitempty"`
	Purpose  string     `json:"purpose,omitempty"`
	Note     string     `json:"note,omitempty"`
	Critical bool       `json:"critical,omitempty"`
	Lease    *time.Time `json:"lease,omitempty"` // when the lease it holds ends
}

// Refused says why a configuration cannot be used: its problems, the tests of its own
// that it fails, or that it locks out.
type Refused struct {
	Problems diag.List `json:"problems,omitempty"`
	Failed   []Failed  `json:"failed,omitempty"`
	Lockout  string    `json:"lockout,omitempty"` // why; for root on the box itself, see [Terms]
	Hint     string    `json:"hint,omitempty"`    // what to do, if not to mend the file that was sent
}

func (r *Refused) Error() string {
	var lines []string
	for _, p := range r.Problems.Sorted() {
		lines = append(lines, p.Error())
	}
	for _, f := range r.Failed {
		lines = append(lines, f.String())
	}
	if r.Lockout != "" {
		lines = append(lines, LockoutText(r.Lockout))
	}
	if r.Hint != "" {
		lines = append(lines, "hint: "+r.Hint)
	}
	return strings.Join(lines, "\n")
}

// Failed is a test of the configuration that does not hold.
type Failed struct {
	Pos     diag.Pos `json:"pos"`
	Expect  string   `json:"expect"`  // allow or deny
	Against Verdict  `json:"against"` // one connection that shows it
}

// LockoutText is how the reason for a lock-out is told.
func LockoutText(reason string) string { return "this would lock you out: " + reason }

func (f Failed) String() string {
	return fmt.Sprintf("%s: tests: expected %s, but %s", f.Pos, f.Expect, f.Against)
}

// Failures evaluates the tests of a policy's configuration.
func Failures(p *policy.Policy) []Failed {
	var failed []Failed
	for _, r := range p.Failures() {
		failed = append(failed, Failed{r.Test.Pos, expectation(r.Test), verdict(r.Against.From, r.Against.To, []model.Service{r.Against.Service}, r.Against.Decision)})
	}
	return failed
}

// RulesOf lists the rules of a configuration as they are at a time: allows, blocks
// and forwards, each in the order of the file.
func RulesOf(cfg *model.Config, now time.Time) []Rule {
	rules := []Rule{}
	over := func(until time.Time) bool { return !until.IsZero() && !now.Before(until) }
	add := func(kind string, list []*model.Rule) {
		for _, r := range list {
			rules = append(rules, Rule{
				Kind: kind, Name: r.Name, From: r.FromNames, To: r.ToNames, Protocols: r.Protocols,
				Why: r.Why, Owner: r.Owner, Until: r.Until, Expired: over(r.Until), Pos: r.Pos,
			})
		}
	}
	add("allow", cfg.Allow)
	add("block", cfg.Block)
	for _, f := range cfg.Forwards {
		rules = append(rules, Rule{
			Kind: "forward", Name: f.Name, From: []string{model.Internet}, To: []string{f.To.Name}, Protocols: f.Protocols,
			Why: f.Why, Owner: f.Owner, Until: f.Until, Expired: over(f.Until), Pos: f.Pos,
		})
	}
	return rules
}
