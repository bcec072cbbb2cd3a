//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/textdiff"
	"bulkhead/netcfg/txn"
	updates "bulkhead/services/update/api"
)

// trials tries changes as netcfgd does, without a network: the transaction is the real one.
type trials struct {
	backend
	file []byte

	mu      sync.Mutex
	tx      *txn.Transaction
	pending api.Pending
	last    *api.Outcome
	history []api.Entry // oldest first
	silent  string      // why DNS in zone iot does not answer; "": it does
	speed   int         // how many times faster than told the time of a change runs; 0: as told
}

// nowhere is a store of changes that keeps nothing.
type nowhere struct{}

func (nowhere) Stage(txn.Trial) error     { return nil }
func (nowhere) Promote(txn.Outcome) error { return nil }
func (nowhere) Note(txn.Outcome) error    { return nil }
func (nowhere) Discard() error            { return nil }

func newTrials(b *box) *trials {
	b.t.Helper()
	file, err := os.ReadFile("../configs/zero-trust.yaml")
	if err != nil {
		b.t.Fatal(err)
	}
	s := &trials{backend: backend{box: b}, file: file, tx: txn.New(nowhere{})}
	words := []struct {
		author, why string
		via         api.Via
	}{
		{"alex", "first configuration", api.ViaConsole}, {"alex", "guests get films", api.ViaUI}, {"kim", "the printer moves to the office", api.ViaUI},
		{"ci", "rules of the nursery's camera", api.ViaAPI}, {"alex", "undo of change 4", api.ViaCLI}, {"kim", "nextcloud keeps its files on the nas", api.ViaUI},
		{"alex", "the door's camera may record to the nas", api.ViaUI},
	}
	// What each of them but the first has added.
	lines := []string{
		"players: [tv]\n", "  tv:        {zone: iot,      mac: \"52:54:00:40:00:12\", owner: kim, purpose: television}\n", "  - {from: tv, to: internet, protocols: https, expect: deny}\n",
		"flows: {keep: 90d, size: 1GiB}\n", "  jellyfin: [tcp/8096, udp/7359]\n", "  - {from: iot, to: nas, protocols: smb, expect: deny}\n",
	}
	for i, w := range words {
		data := file
		for _, line := range lines[i:] {
			data = bytes.Replace(data, []byte(line), nil, 1)
		}
		s.history = append(s.history, api.Entry{
			Confirmed: api.Confirmed{Number: i + 1, Time: time.Date(2026, 11, 14+2*i, 19, 3*i, 0, 0, time.UTC), Author: w.author, Via: w.via, Why: w.why},
			Name:      "home.yaml", Data: data, Reach: []string{"camera-door → nas: rtsp becomes possible"}, Sum: strings.Repeat("3f", 32),
		})
	}
	return s
}

func (s *trials) Status(context.Context) (*api.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	st := &api.Status{
		Name: "gw", Timezone: "Europe/Berlin", Mode: api.Running, Now: time.Now(), Applied: true, Last: s.last,
		Uplink: &facts.Lease{Link: "wan", Address: netip.MustParsePrefix("203.0.113.7/24"), Gateway: netip.MustParseAddr("203.0.113.1"), Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.53")}, Obtained: time.Now().Add(-5 * time.Hour), Since: time.Now().Add(-80 * time.Hour)},
	}
	if s.tx.Phase() != txn.Idle {
		st.Pending = s.now()
	}
	return st, nil
}

// look undoes the change whose time is over.
func (s *trials) look() {
	if s.tx.Overdue() {
		s.end(api.EndUnconfirmed, "")
	}
}

func (s *trials) end(end api.End, by string) {
	if err := s.tx.Undo(txn.Outcome{}); err != nil {
		return
	}
	if err := s.tx.Undone(); err != nil {
		panic(err) // it is kept nowhere
	}
	p := s.pending
	s.last = &api.Outcome{ID: p.ID, Author: p.Author, Via: p.Via, Why: p.Why, Time: time.Now(), End: end, By: by}
}

func (s *trials) now() *api.Pending {
	p := s.pending
	p.Left = api.Window(s.tx.Left())
	return &p
}

// Plan says the same of every file, but for one that is broken, or that moves the box.
func (s *trials) Plan(_ context.Context, p api.Proposal) (*api.Plan, error) {
	if line := lineWith(p.Data, "broken"); line > 0 {
		return nil, &api.Refused{Problems: diag.List{
			{Pos: diag.Pos{File: p.Name, Line: line, Col: 3}, Key: "allow.films", Msg: `"broken" is no zone`, Hint: "Use the name of a zone, or add one below zones."},
			{Pos: diag.Pos{File: p.Name, Line: 1, Col: 1}, Key: "system", Msg: "the time zone is not set", Severity: diag.Warning},
		}}
	}
	if line := lineWith(p.Data, "fails a test"); line > 0 {
		return nil, &api.Refused{Failed: []api.Failed{{Pos: diag.Pos{File: p.Name, Line: line, Col: 1}, Expect: "deny", Against: api.Verdict{From: "tv", To: "nas", Services: []string{"smb"}, Allow: true, Rule: "tv-films"}}}}
	}
	plan := &api.Plan{
		Reach: []api.Reach{
			{From: "camera-door", To: "nas", Possible: true, Services: []string{"rtsp", "tcp/8554"}},
			{From: "guest", To: "internet", Possible: true, Services: []string{"udp/443"}},
			{From: "iot", To: "storage", Services: []string{"smb"}},
		},
		Interrupts: []impact.Interrupt{{Zone: "iot", Text: "zone iot moves from VLAN 40 to VLAN 41: its 6 devices are without a network until they have asked again, for 10m at most", Leases: 6, AtMost: svcconf.Duration(10 * time.Minute)}},
		Cut:        &impact.Cut{Count: 3, Rules: []impact.CutRule{{Rule: "tv-films", Count: 3, Examples: []string{"tv → nas: tcp/445"}}}},
		Tests: []api.TestChange{{
			Pos: diag.Pos{File: p.Name, Line: 88, Col: 3}, From: []string{"iot"}, To: []string{"storage"}, Protocols: []string{"any"}, Expect: "deny", Holds: true,
		}},
		Path:  &impact.Path{Address: p.Origin.Address, Zone: "admin", Text: fmt.Sprintf("You are laptop-anna (%s) in zone admin, and still reach the box at 192.168.10.1.", p.Origin.Address)},
		Steps: []api.Step{{Text: "create VLAN 41 on trunk as trunk.41"}, {Text: "load the ruleset", Risk: "no packet is lost"}},
	}
	if p.Ruleset {
		plan.Ruleset = &api.RulesetDiff{More: 12, Text: "--- in force\n+++ proposed\n@@ -223,4 +223,5 @@ map guest_internet.allow.zone.port {\n" +
			" \t\ttype inet_proto . inet_service : mark\n-\t\telements = { tcp . 443 comment \"browsing\" : 0x06d991d0 }\n" +
			"+\t\telements = { tcp . 443 comment \"browsing\" : 0x06d991d0,\n+\t\t\t     udp . 443 comment \"<script>\" : 0x06d991d0 }\n \t}\n"}
	}
	if lineWith(p.Data, "locks out") > 0 {
		plan.Lockout = "no admin zone reaches the box"
	}
	if line := lineWith(p.Data, "purpose: films"); line > 0 {
		plan.Warnings.Warn(diag.Pos{File: p.Name, Line: line, Col: 3}, "devices.tv.purpose", "nobody has said who looks after it", "Say who owns the device.")
	}
	if lineWith(p.Data, "moves the box") > 0 {
		plan.Path.Moves = true
		plan.Path.Text = "You are laptop-anna in zone admin. Its subnet is 192.168.99.0/24 instead of 192.168.10.0/24."
		plan.Path.At = []impact.Door{{Zone: "admin", Place: "VLAN 10 of port trunk", Address: netip.MustParseAddr("192.168.99.1")}}
	}
	return plan, nil
}

// lineWith is the number of the first line with a text, or 0.
func lineWith(file []byte, text string) int {
	before, _, found := bytes.Cut(file, []byte(text))
	if !found {
		return 0
	}
	return bytes.Count(before, []byte("\n")) + 1
}

// checks answers for updated.
func (s *trials) checks(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode([]updates.Check{
		{What: "DHCP in zone admin"}, {What: "DHCP in zone iot"}, {What: "DNS in zone admin"}, {What: "DNS in zone iot", Error: s.silent}, {What: "the management address 192.168.10.1"},
	})
}

func (s *trials) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	plan, err := s.Plan(ctx, api.Proposal{File: c.File, Origin: c.Origin})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	if s.tx.Phase() != txn.Idle {
		return nil, &api.Busy{Pending: *s.now()}
	}
	if lineWith(c.File.Data, "no service takes it") > 0 {
		return nil, errors.New("dnsd did not take the new configuration within 10s")
	}
	token := rand.Text() + rand.Text()
	window := time.Duration(c.Window) / time.Duration(max(1, s.speed))
	s.pending = api.Pending{
		ID: txn.IDOf(token), Phase: api.Waiting, Author: c.Author, Via: c.Via, Why: c.Why, Name: c.File.Name,
		Since: time.Now(), Deadline: time.Now().Add(window), Left: api.Window(window), Steps: len(plan.Steps), Reach: plan.Reach,
	}
	if plan.Path.Moves {
		s.pending.Moves = []api.Move{{Zone: "admin", From: netip.MustParseAddr("192.168.10.1"), To: netip.MustParseAddr("192.168.99.1")}}
	}
	tr := txn.Trial{ID: s.pending.ID, Change: txn.Change{Author: c.Author, Config: c.File.Data}, Identity: c.Origin.Identity, Token: txn.Hash(token)}
	if err := s.tx.Begin(tr, window); err != nil {
		return nil, err
	}
	s.tx.InForce(api.Uptime())
	return &api.Trial{Pending: s.pending, Token: token, Plan: plan}, nil
}

func (s *trials) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	return s.Apply(ctx, api.Change{File: api.File{Data: s.file}, Author: u.Author, Via: u.Via, Terms: u.Terms})
}

func (s *trials) Pending(context.Context) (*api.Trials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	t := &api.Trials{Last: s.last}
	if s.tx.Phase() != txn.Idle {
		t.Pending = s.now()
	}
	return t, nil
}

func (s *trials) Confirm(_ context.Context, c api.Confirm) (*api.Confirmed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.tx.Confirm(txn.Confirmation{Token: c.Token, Identity: c.Origin.Identity, Connected: c.Origin.Connected}, time.Now())
	switch {
	case errors.Is(err, txn.ErrNone), errors.Is(err, txn.ErrOver):
		return nil, api.Tell(api.ErrNothing, err)
	case err != nil:
		return nil, api.Tell(api.ErrDenied, err)
	}
	p := s.pending
	s.last = &api.Outcome{ID: p.ID, Author: p.Author, Via: p.Via, Why: p.Why, Time: time.Now(), End: api.EndConfirmed}
	e := api.Entry{
		Confirmed: api.Confirmed{Number: len(s.history) + 1, Time: time.Now(), Author: p.Author, Via: p.Via, Why: p.Why},
		Name:      p.Name, Data: s.tx.Trial().Change.Config,
	}
	s.history = append(s.history, e)
	return &e.Confirmed, nil
}

func (s *trials) Cancel(_ context.Context, c api.Cancel) (*api.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tx.Phase() == txn.Idle || c.ID != "" && c.ID != s.pending.ID {
		return nil, api.Tell(api.ErrNothing, txn.ErrNone)
	}
	s.end(api.EndCanceled, c.Author)
	return s.last, nil
}

func (s *trials) History(context.Context) (list []api.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.history {
		e := s.history[len(s.history)-1-i]
		e.Data, e.Reach, e.Sum = nil, nil, ""
		list = append(list, e)
	}
	return list, nil
}

func (s *trials) Entry(_ context.Context, n int) (*api.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 1 || n > len(s.history) {
		return nil, api.Unknown(fmt.Errorf("the history has no change %d", n))
	}
	e := s.history[n-1]
	return &e, nil
}

func (s *trials) Diff(ctx context.Context, from, to int) (*api.Diff, error) {
	a, err := s.Entry(ctx, from)
	if err != nil {
		return nil, err
	}
	b, err := s.Entry(ctx, to)
	if err != nil {
		return nil, err
	}
	return &api.Diff{From: from, To: to, Text: textdiff.Unified("a", "b", string(a.Data), string(b.Data))}, nil
}
