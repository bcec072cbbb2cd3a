// Package api is what one may ask flowd about flows: the parameters of its questions, and
// the types of its answers. The values are JSON over HTTP.
package api

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"bulkhead/services/flow/record"
)

// Bounds of answers.
const (
	DefaultLimit = 100
	MaxLimit     = 10_000
)

// Params are the names of the parameters of a [Query], in the order of the fields.
const Params = "since&until&device&from&to&zone&rule&reason&verdict&proto&port&name"

// Query is which flows are asked for.
type Query struct {
	record.Filter
	Limit int // 0: DefaultLimit
}

// Values writes the query as parameters.
func (q Query) Values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	set("since", moment(q.Since))
	set("until", moment(q.Until))
	set("device", q.Device.String())
	set("from", q.From.String())
	set("to", q.To.String())
	set("zone", q.Zone)
	set("rule", q.Rule)
	set("reason", q.Reason)
	set("verdict", q.Verdict.String())
	set("proto", number(int(q.Proto)))
	set("port", number(int(q.Port)))
	set("name", q.Name)
	set("limit", number(q.Limit))
	return v
}

// ParseQuery reads parameters. zone says which names are those of zones.
func ParseQuery(v url.Values, zone func(string) bool) (q Query, err error) {
	for name, values := range v {
		if len(values) > 1 {
			return Query{}, fmt.Errorf("%s is given twice", name)
		}
	}
	if q.Since, err = moment(v, "since"); err != nil {
		return Query{}, err
	}
	if q.Until, err = moment(v, "until"); err != nil {
		return Query{}, err
	}
	who := func(name string) record.Who {
		if s := v.Get(name); s != "" {
			return record.ParseWho(s, zone)
		}
		return record.Who{}
	}
	q.Device, q.From, q.To = who("device"), who("from"), who("to")
	q.Zone, q.Rule, q.Reason, q.Name = v.Get("zone"), v.Get("rule"), v.Get("reason"), v.Get("name")
	if s := v.Get("verdict"); s != "" {
		if err := q.Verdict.UnmarshalText([]byte(s)); err != nil {
			return Query{}, err
		}
	}
	proto, err := number(v, "proto", 0, 255)
	if err != nil {
		return Query{}, err
	}
	port, err := number(v, "port", 0, 65535)
	if err != nil {
		return Query{}, err
	}
	q.Proto, q.Port = uint8(proto), uint16(port)
	q.Limit, err = number(v, "limit", 1, MaxLimit)
	return q, err
}

func moment(v url.Values, name string) (time.Time, error) {
	s := v.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: a time like 2026-11-27T12:00:00Z is meant", name)
	}
	return t, nil
}

func number(v url.Values, name string, lo, hi int) (int, error) {
	s := v.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		return 0, fmt.Errorf("%s: a number from %d to %d is meant", name, lo, hi)
	}
	return n, nil
}

// ParseTop reads what a top list is of.
func ParseTop(v url.Values) (m record.Measure, g record.Group, err error) {
	m, g = record.Measure(v.Get("by")), record.Group(v.Get("per"))
	if m == "" {
		m = record.ByBytes
	}
	if g == "" {
		g = record.PerDevice
	}
	if !slices.Contains([]record.Measure{record.ByBytes, record.ByConnections, record.ByRefused}, m) {
		return "", "", fmt.Errorf("by: bytes, connections or refused is meant")
	}
	if !slices.Contains([]record.Group{record.PerDevice, record.PerDestination, record.PerRule}, g) {
		return "", "", fmt.Errorf("per: device, destination or rule is meant")
	}
	return m, g, nil
}

// Talks is who has talked to whom.
type Talks struct {
	Talks []record.TalkSum `json:"talks"`
	Rest  record.Sum       `json:"rest"` // what is in none of them
}

// Status is how recording goes.
type Status struct {
	Tracked   record.TrackStats `json:"tracked"`
	Store     record.StoreStats `json:"store"`
	Lost      uint64            `json:"lost"`      // times that the kernel had no room for events
	Unread    uint64            `json:"unread"`    // messages of the kernel that made no sense
	NamesLost uint64            `json:"namesLost"` // DNS answers that dnsd had no room for
	Trouble   string            `json:"trouble,omitempty"`
}

// Observing is what the name of a rule starts with that lets an observed zone do
// everything: policy.Observing.
const Observing = "observe:"

// Needs is what rules could be proposed for, and which rules were of use.
type Needs struct {
	Needs  []Need         `json:"needs"`
	More   int            `json:"more,omitempty"` // records of kinds that there was no room for
	Used   map[string]int `json:"used"`           // rules that decided something within 30 or 90 days
	Oldest time.Time      `json:"oldest"`         // of the records; zero if none is on the disk yet
}

// LastUses returns when the rules in used, which is [Needs.Used], decided something last: on
// one of the last 30 days is now, before that is 31 days ago. More is not known.
func LastUses(used map[string]int, now time.Time) map[string]time.Time {
	last := make(map[string]time.Time, len(used))
	for rule, days := range used {
		last[rule] = now
		if days > 30 {
			last[rule] = now.AddDate(0, 0, -31)
		}
	}
	return last
}

// Need is connections of one kind that somebody opened, or tried to.
type Need struct {
	Kind
	Count uint64    `json:"count"` // connections, or packets that were refused
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Name  string    `json:"name,omitempty"` // DNS name, of one of them
}

// Kind is what connections have in common that a rule could name.
type Kind struct {
	From   Party  `json:"from"`
	To     Party  `json:"to"`
	Proto  uint8  `json:"proto"`
	Port   uint16 `json:"port,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Party is one side of a kind of connections.
type Party struct {
	Zone   string     `json:"zone"`
	Device string     `json:"device,omitempty"`
	Addr   netip.Addr `json:"addr,omitzero"` // zero on the internet
}

// Add adds a record of the kind.
func (n *Need) Add(r *record.Record) {
	if r.Verdict == record.Refused {
		n.Count += r.Out.Packets
	} else {
		n.Count++
	}
	if r.Start.Before(n.First) {
		n.First = r.Start
	}
	if r.End.After(n.Last) {
		n.Last = r.End
	}
	if n.Name == "" {
		n.Name = r.Name
	}
}
