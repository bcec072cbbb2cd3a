package api_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/policy"
)

// office is the policy of an example that has blocks, groups and forwards.
func office(t *testing.T) *policy.Policy {
	t.Helper()
	data, err := os.ReadFile("../../configs/ciso.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	cfg, problems := conf.Parse("ciso.yaml", data, now)
	if cfg == nil {
		t.Fatal(problems)
	}
	return compile.Compile(cfg, compile.Offline(cfg, now)).Policy
}

func TestMatrixSaysWhatIsAllowed(t *testing.T) {
	m := api.MatrixOf(office(t))
	want := []string{"management", "servers", "workloads", "iot", "clients", "guest", "internet", "box"}
	if diff := cmp.Diff(want, m.Parties); diff != "" {
		t.Errorf("parties differ (-want +got):\n%s", diff)
	}
	got := map[string]api.Cell{}
	for _, c := range m.Cells {
		got[c.From+" "+c.To] = c
	}
	for _, want := range []api.Cell{
		{From: "guest", To: "internet", Allows: 1, Words: []string{"http, https, http3"}},
		{From: "guest", To: "clients", Blocks: 1},
		{From: "iot", To: "internet", Blocks: 1},
		{From: "servers", To: "internet", Allows: 2, Words: []string{"https, ntp", "smtp from mail"}},
		{From: "clients", To: "servers", Allows: 3, Words: []string{"imap-and-submission to mail", "ssh, https, registry to git", "ntp to clock"}},
		{From: "workloads", To: "servers", Allows: 3, Words: []string{"ssh, https, registry from 10.20.20.32/28, runner-1, runner-2 to git", "ntp to clock", "rsync from runner-1, runner-2 to backup"}},
		{From: "guest", To: "servers"}, // nothing speaks of it
	} {
		c := got[want.From+" "+want.To]
		if want.Allows+want.Blocks == 0 {
			want = api.Cell{}
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("%s to %s differs (-want +got):\n%s", want.From, want.To, diff)
		}
	}
	if c := got["internet servers"]; c.Allows == 0 || c.All {
		t.Errorf("forwards are not in the matrix: %+v", c)
	}
}

func TestCellHasItsRulesInTheOrderInWhichTheyDecide(t *testing.T) {
	p := office(t)
	got, ok := api.CellOf(p, "workloads", "management")
	if !ok || len(got.Rules) == 0 {
		t.Fatalf("got %+v, %t", got, ok)
	}
	want := api.CellRule{
		Name: "no-lateral-movement", Kind: "block", From: []string{"workloads"}, To: []string{"management"}, Services: []string{"any"},
		Why: "nothing that can be taken over reaches people's machines", Pos: &diag.Pos{File: "ciso.yaml", Line: 151, Col: 5},
	}
	ignore := cmpopts.IgnoreUnexported(api.CellRule{})
	if diff := cmp.Diff(want, got.Rules[0], ignore, cmpopts.IgnoreFields(diag.Pos{}, "Line", "Col")); diff != "" {
		t.Errorf("rule differs (-want +got):\n%s", diff)
	}
	if _, ok := api.CellOf(p, "workloads", "nowhere"); ok {
		t.Error("there is a cell for a party that there is not")
	}
	if got, ok := api.CellOf(p, "guest", "servers"); !ok || len(got.Rules) != 0 {
		t.Errorf("got %+v, %t", got, ok)
	}
}
