package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/svcconf"
)

// busy is a box that has configs/zero-trust.yaml in force, leases and open connections,
// and is asked from a machine in its management zone.
type busy struct{ *backend }

// tv is the address that the TV was given.
var tv = netip.MustParseAddr("192.168.40.100")

func (b busy) Plan(_ context.Context, p api.Proposal) (*api.Plan, error) {
	data, err := os.ReadFile("configs/zero-trust.yaml")
	if err != nil {
		return nil, err
	}
	known := map[string]netip.Addr{"tv": tv}
	old, problems := conf.Parse("zero-trust.yaml", data, today)
	if old == nil {
		return nil, problems.Err()
	}
	cfg, problems := conf.Parse(filepath.Base(p.Name), p.Data, today) // as wide everywhere
	if cfg == nil {
		return nil, &api.Refused{Problems: problems}
	}
	// The cards of the box are those of the old file.
	a := &app{now: func() time.Time { return today }}
	before, f := a.compile(old, known)
	f.Devices = compile.Pin(cfg, known, func(netip.Addr) bool { return false })
	after := compile.Compile(cfg, f)
	if failed := api.Failures(after.Policy); len(failed) > 0 {
		return nil, &api.Refused{Failed: failed}
	}
	c := impact.Change{
		Old: sideOf(before), New: sideOf(after), Now: today, Live: true, Author: netip.MustParseAddr("192.168.10.20"),
		Leases: b.leases(), Ends: b.ends(before),
	}
	out := api.PlanOf(before.Policy, c, plan.Make(before.State, after.State), problems.Warnings())
	if p.Ruleset {
		out.Ruleset = api.RulesetDiffOf(c)
	}
	return out, nil
}

func (b busy) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	p, err := b.Plan(ctx, api.Proposal{File: c.File})
	if err == nil && p.Lockout != "" && !c.AcceptLockout {
		return nil, &api.Refused{Lockout: p.Lockout}
	}
	b.token = c.Token
	return &api.Trial{Token: c.Token, Plan: p, Pending: api.Pending{Deadline: today.Add(time.Minute), Left: api.Window(time.Minute)}}, err
}

// Undo goes back to a configuration whose management zone is at a card that the box has
// no more.
func (b busy) Undo(_ context.Context, u api.Undo) (*api.Trial, error) {
	if !u.AcceptLockout {
		return nil, &api.Refused{Lockout: "no admin zone could reach the box: port trunk is missing"}
	}
	b.token = u.Token
	return &api.Trial{Token: u.Token, Plan: &api.Plan{}, Pending: api.Pending{Deadline: today.Add(time.Minute), Left: api.Window(time.Minute)}}, nil
}

// leases are 14 of iot, the youngest of which is four hours old.
func (b busy) leases() []svcconf.Lease {
	var list []svcconf.Lease
	for n := range 14 {
		begun := today.Add(-min(time.Duration(4+n)*time.Hour, 11*time.Hour))
		list = append(list, svcconf.Lease{
			Zone: "iot", Address: netip.AddrFrom4([4]byte{192, 168, 40, byte(100 + n)}), MAC: model.MAC{2, 0, 0, 0, 0, byte(n)},
			Granted: begun, Expires: begun.Add(12 * time.Hour),
		})
	}
	return list
}

// ends are connections that are open and that the new file does not allow.
func (b busy) ends(before *compile.Result) []impact.Conn {
	mark := func(name string) uint32 {
		for _, r := range before.Policy.Rules {
			if r.Name == name {
				return r.Mark()
			}
		}
		return 0
	}
	addr := netip.MustParseAddr
	return []impact.Conn{
		{Src: tv, Dst: addr("192.168.20.11"), Proto: model.ProtoTCP, Port: 8096, Mark: mark("tv-films")},
		{Src: tv, Dst: addr("192.168.20.11"), Proto: model.ProtoTCP, Port: 8096, Mark: mark("tv-films")},
		{Src: tv, Dst: addr("192.168.20.11"), Proto: model.ProtoUDP, Port: 7359, Mark: mark("tv-films")},
		{Src: addr("192.168.40.107"), Dst: addr("192.168.40.1"), Proto: model.ProtoUDP, Port: 53, Mark: mark("box:dns")},
		{Src: addr("192.168.10.20"), Dst: addr("192.168.40.104"), Proto: model.ProtoTCP, Port: 443, Mark: mark("admin")},
	}
}

func TestALockoutIsTypedOut(t *testing.T) {
	socket := serve(t, busy{&backend{status: running}})
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Chdir("../..")
	data, err := os.ReadFile("configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/lockout.yaml"
	// The management zone goes to a card that the box does not have.
	data = bytes.Replace(data, []byte("52:54:00:10:00:02"), []byte("52:54:00:10:00:77"), 1)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]struct {
		code int
		says string
	}{
		"lock me out\ny\n": {0, "is confirmed"},
		"lock me out\n":    {exitProblem, "the change was undone"},
		"yes\n":            {exitSystem, "nothing was changed"},
		"":                 {exitSystem, "no answer"},
	} {
		for _, command := range [][]string{{"apply", file}, {"undo"}} {
			var out bytes.Buffer
			a := &app{in: strings.NewReader(answer), out: &out, err: &out, asks: true, now: func() time.Time { return today }, location: time.UTC}
			code := a.run(t.Context(), append(command, "--socket", socket, "--accept-lockout"))
			if code != want.code || !strings.Contains(out.String(), want.says) || !strings.Contains(out.String(), "this would lock you out: ") {
				t.Errorf("%s, answer %q: exit code %d:\n%s", command[0], answer, code, out.String())
			}
		}
	}
}
