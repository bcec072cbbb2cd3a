package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/netcfg/txn"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// today is when the golden files are about.
var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestGolden runs what testdata/*.txtar says. The comment says what a case is about;
// "run" holds command lines, one each, of which the output follows in "output":
// standard output, standard error after a "!" and exit codes other than 0. Other
// files are there to be read by the commands, which run at the top of the tree and
// find them in $FILES. SOCKET is that of a netcfgd in good order, CLOSED of one
// whose box is closed, LACKING of one whose box lacks a port, BUSY of one whose box has
// leases and open connections, FILED of one that shows its file, PROBES of one that looks
// at the network. A line that begins with
// COLUMNS=N runs in a terminal of that width; one that ends with < FILE has its input.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for i := range files {
		files[i], _ = filepath.Abs(files[i])
	}
	vars := map[string]string{
		"$SOCKET":  serve(t, &backend{status: running}),
		"$CLOSED":  serve(t, &backend{status: closed}),
		"$BUSY":    serve(t, busy{&backend{status: running}}),
		"$PENDING": serve(t, &backend{status: pending}),
		"$PROBES":  serve(t, &backend{status: running}),
		"$FILED":   serve(t, filed{&backend{status: running}}),
		"$LACKING": serve(t, &backend{status: running, missing: running.Missing}),
	}
	serveFlowd(t, filepath.Dir(vars["$SOCKET"]))
	serveFlowd(t, filepath.Dir(vars["$FILED"]))
	serveExportd(t, filepath.Dir(vars["$SOCKET"]))
	serveDiagnoses(t, filepath.Dir(vars["$PROBES"]))
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // no box was ever claimed
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Chdir("../..")
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file, vars) })
	}
}

func golden(t *testing.T, file string, vars map[string]string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var lines, want []byte
	for _, f := range ar.Files {
		switch f.Name {
		case "run":
			lines = f.Data
		case "output":
			want = f.Data
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got bytes.Buffer
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSpace(line)
		fmt.Fprintf(&got, "$ bulkhead %s\n", line)
		args := strings.Fields(line)
		for i, arg := range args {
			for name, value := range vars {
				arg = strings.ReplaceAll(arg, name, value)
			}
			args[i] = strings.ReplaceAll(arg, "$FILES", dir)
		}
		width := 0
		if n, ok := strings.CutPrefix(args[0], "COLUMNS="); ok {
			width, _ = strconv.Atoi(n)
			args = args[1:]
		}
		var in io.Reader = strings.NewReader("")
		if i := slices.Index(args, "<"); i >= 0 {
			data, err := os.ReadFile(args[i+1])
			if err != nil {
				t.Fatal(err)
			}
			in, args = bytes.NewReader(data), args[:i]
		}
		runOne(t, &got, width, in, args)
	}
	text := bytes.ReplaceAll(got.Bytes(), []byte(dir), []byte("$FILES"))
	if *update {
		ar.Files = append(deleteFile(ar.Files, "output"), txtar.File{Name: "output", Data: text})
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("output differs (-want +got):\n%s", diff)
	}
}

func deleteFile(files []txtar.File, name string) []txtar.File {
	var kept []txtar.File
	for _, f := range files {
		if f.Name != name {
			kept = append(kept, f)
		}
	}
	return kept
}

func runOne(t *testing.T, w *bytes.Buffer, width int, in io.Reader, args []string) {
	var out, errs bytes.Buffer
	a := &app{in: in, out: &out, err: &errs, width: width, now: func() time.Time { return today }, location: time.UTC}
	code := a.run(t.Context(), args)
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
			t.Errorf("%v: a line has %d characters: %s", args, n, line)
		}
	}
	w.Write(out.Bytes())
	for line := range strings.Lines(errs.String()) {
		w.WriteString("! " + line)
	}
	if code != 0 {
		fmt.Fprintf(w, "[exit %d]\n", code)
	}
}

// serve answers on a socket as netcfgd would.
func serve(t *testing.T, b api.Backend) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := api.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := api.NewServer(b, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return filepath.Join(dir, api.SocketFile)
}

// backend is a box that has configs/zero-trust.yaml in force.
type backend struct {
	unasked
	vault
	quarantine
	keeper
	status  api.Status
	missing []string
	token   string // of the change that is pending; "": none is
}

// unasked are the questions that no command asks: only the pages do. They lie deep, so that
// whatever else answers comes first.
type (
	unasked struct{ deep }
	deep    struct{ api.Backend }
)

var running = api.Status{
	Name: "gw", Timezone: "Europe/Berlin", Mode: api.Running, Now: today, Started: today.Add(-time.Hour),
	Confirmed: &api.Confirmed{Number: 12, Time: today.Add(-time.Hour), Author: "alex", Why: "the TV may show films"},
	Uplink: &facts.Lease{
		Link: "eth0", Address: netip.MustParsePrefix("203.0.113.7/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
	},
	Missing:  []string{"guest: port attic is missing: no network card has the MAC 52:54:00:10:00:09"},
	Troubles: []string{"give trunk.30 the address 192.168.30.1/24 (zone storage): no such device"},
	Warnings: diag.List{{Pos: diag.Pos{File: "home.yaml", Line: 84, Col: 5}, Key: "allow.tv-films", Msg: "expired on 2026-06-30", Hint: "remove it", Severity: diag.Warning}},
	Next:     new(today.Add(24 * time.Hour)),
	Repaired: &api.Repair{Time: today.Add(-time.Minute), Steps: []string{"switch trunk.40 on (zone iot)"}, Found: []string{"trunk.40 was switched off"}},
	Repairs:  3, Cut: 1,
	Overdue: []string{"dyndns"}, Isolated: []string{"tv", "192.168.40.140"},
	Push:    &api.Push{To: "ssh://git@192.168.20.11:22/srv/gw.git", Head: "0123456789abcdef0123456789abcdef01234567", Time: today.Add(-55 * time.Minute)},
	Digest:  "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456",
	Applied: true, Untaken: []string{"dnsd"},
}

// pending is a box on which somebody tries something, after something else was undone.
var pending = api.Status{
	Name: "gw", Timezone: "Europe/Berlin", Mode: api.Running, Now: today, Confirmed: running.Confirmed, NoUplink: true,
	Pending: &api.Pending{
		ID: "0123456789ab", Phase: api.Waiting, Author: "alex", Via: api.ViaUI, Why: "films", Name: "home.yaml",
		Since: today.Add(-time.Minute), Deadline: today.Add(time.Minute), Left: api.Window(time.Minute), Steps: 1,
	},
	Last: &api.Outcome{ID: "ba9876543210", Author: "kim", Via: api.ViaCLI, Why: "guests", Time: today.Add(-time.Hour), End: api.EndFailed,
		Detail: "dhcpd did not take the new configuration within 10s"},
}

var closed = api.Status{
	Name: "gw", Mode: api.Closed, Reason: "the confirmed configuration cannot be used: home.yaml:3:1: zones: missing (and 2 more)", Now: today,
	Damage: []string{"change 11 cannot be read: it is not what was written"},
	Push:   &api.Push{To: "ssh://git@192.168.20.11:22/srv/gw.git", Error: "the remote refuses: hook declined", Failing: today.Add(-time.Hour)},
}

func (b *backend) Status(context.Context) (*api.Status, error) { return &b.status, nil }

func (b *backend) Zones(context.Context) ([]api.Zone, error) {
	return []api.Zone{
		{Name: "management", Port: "trunk", VLAN: 10, Link: "trunk.10", Subnet: netip.MustParsePrefix("192.168.10.0/24"),
			Gateway: netip.MustParseAddr("192.168.10.1"), Admin: true, DHCP: true, DNS: true, Leases: 1},
		{Name: "a-zone-with-a-name-of-32-letters", Port: "another-port-with-a-long-name", VLAN: 4094, Link: "if-of-15-bytes-", Subnet: netip.MustParsePrefix("192.168.100.128/25"),
			Gateway: netip.MustParseAddr("192.168.100.129"), DHCP: true, DNS: true, Devices: 100, Leases: 100},
		{Name: "attic", Port: "lan2", Subnet: netip.MustParsePrefix("192.168.60.0/24"), Gateway: netip.MustParseAddr("192.168.60.1")},
	}, nil
}

func (b *backend) Rules(context.Context) (*api.Rules, error) {
	data, err := os.ReadFile("configs/zero-trust.yaml")
	if err != nil {
		return nil, err
	}
	cfg, problems := conf.Parse("zero-trust.yaml", data, today)
	if cfg == nil {
		return nil, problems.Err()
	}
	return &api.Rules{
		Rules:   api.RulesOf(cfg, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)),
		Refused: []api.Counter{{Name: "iot_internet", Packets: 12, Bytes: 840}, {Name: "iot_storage"}, {Name: "nowhere", Packets: 1, Bytes: 60}},
	}, nil
}

func (b *backend) Devices(context.Context) ([]api.Device, error) {
	return []api.Device{
		{Name: "nas", Zone: "storage", MAC: model.MAC{0x52, 0x54, 0, 0x30, 0, 0x10}, Address: netip.MustParseAddr("192.168.30.10"), Owner: "alex", Purpose: "backups", Critical: true},
		{Name: "tv", Zone: "iot", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Address: netip.MustParseAddr("192.168.40.100"), Given: true, Owner: "kim", Purpose: "television", Lease: new(today.Add(7 * time.Hour))},
		{Name: "the-weather-station-on-the-roof", Zone: "a-zone-with-a-name-of-32-letters", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x14}, Address: netip.MustParseAddr("192.168.100.200"), Given: true,
			Purpose: "tells the blinds when the wind is too strong for them and the gardener when to come", Lease: new(today.Add(71 * time.Hour))},
		{Name: "new", Zone: "iot", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x13}},
	}, nil
}

func (b *backend) Leases(context.Context) ([]svcconf.Lease, error) {
	return []svcconf.Lease{
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.100"), MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Hostname: "telly", Device: "tv", Expires: today.Add(7 * time.Hour)},
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.101"), MAC: model.MAC{2, 0, 0, 0, 0, 2}, Hostname: "kitchen-display-of-the-upper-floor", Expires: today.Add(12*time.Hour - time.Second)},
		{Zone: "guest", Address: netip.MustParseAddr("192.168.50.130"), MAC: model.MAC{2, 0, 0, 0, 0, 1}, Expires: today.Add(90 * time.Second)},
	}, nil
}

func (b *backend) LeaseHistory(_ context.Context, device string) (*svcconf.LeaseHistory, error) {
	ago := func(hours int) time.Time { return today.Add(-time.Duration(hours) * time.Hour) }
	tv, stranger := model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, model.MAC{2, 0, 0, 0, 0, 2}
	h := &svcconf.LeaseHistory{Leases: []svcconf.PastLease{
		{Zone: "iot", Address: netip.MustParseAddr("192.168.40.100"), MAC: tv, Hostname: "telly", First: ago(70), Renewed: ago(5), Ends: ago(-7)},
		{Zone: "guest", Address: netip.MustParseAddr("192.168.50.131"), MAC: stranger, Hostname: "\x1b[2J\"", First: ago(20), Renewed: ago(20), Ends: ago(8)},
		{Address: netip.MustParseAddr("192.168.4.2"), MAC: tv, First: ago(2000), Renewed: ago(1900), Ends: ago(1888)},
	}}
	switch device {
	case "":
		h.Older = 12
	case "tv":
		h.Leases = []svcconf.PastLease{h.Leases[0], h.Leases[2]}
	case "new":
		h.Leases = nil
	default:
		return nil, api.Unknown(fmt.Errorf("no device is called %q, and it is no MAC", device))
	}
	return h, nil
}

func (b *backend) Drift(context.Context) ([]api.Drift, error) {
	if b.status.Mode == api.Closed {
		return []api.Drift{}, nil
	}
	ago := func(d time.Duration) time.Time { return today.Add(-d) }
	return []api.Drift{
		{What: "rules of the packet filter: chain forward had 1 rule more", By: "nft (process 4711)", Noticed: ago(time.Minute), Last: ago(time.Minute), Times: 1},
		{What: "net/ipv4/ip_forward was 0 instead of 1", Noticed: ago(3 * time.Hour), Last: ago(2 * time.Hour), Times: 12, Repaired: ago(2 * time.Hour)},
		{What: "address 10.9.9.9/24 was added to trunk.10", By: "netlink port 815", Noticed: ago(48 * time.Hour), Last: ago(48 * time.Hour), Times: 1, Repaired: ago(48*time.Hour - time.Second)},
	}, nil
}

func (b *backend) Why(_ context.Context, from, to, protocol string) (*api.Why, error) {
	if from != "tv" {
		return nil, api.Unknown(fmt.Errorf("no zone, device or group is called %q: did you mean \"tv\"?", from))
	}
	return &api.Why{From: from, To: to, Protocol: protocol, Verdicts: []api.Verdict{
		{From: from, To: to, Services: []string{"tcp/445"}, Why: "no rule allows it", Reason: "policy"},
	}}, nil
}

func (b *backend) Plan(_ context.Context, f api.Proposal) (*api.Plan, error) {
	cfg, problems := conf.Parse(f.Name, f.Data, today)
	if cfg == nil {
		return nil, &api.Refused{Problems: problems}
	}
	return &api.Plan{
		Missing: b.missing, Cut: &impact.Cut{},
		Reach: []api.Reach{{From: "guest", To: "internet", Possible: true, Services: []string{"any"}}},
		Steps: []api.Step{{Text: "load the changed rules of the packet filter, all at once", Risk: "interrupts what the new rules do not allow"}},
	}, nil
}

func (b *backend) Undo(ctx context.Context, u api.Undo) (*api.Trial, error) {
	if b.status.Mode == api.Closed {
		return nil, fmt.Errorf("%w: the history has no other configuration", api.ErrNothing)
	}
	data, err := os.ReadFile("configs/small.yaml")
	if err != nil {
		return nil, err
	}
	return b.Apply(ctx, api.Change{File: api.File{Name: "small.yaml", Data: data}, Author: u.Author, Via: u.Via, Why: "guests", Terms: u.Terms})
}

func (b *backend) History(context.Context) ([]api.Entry, error) {
	return []api.Entry{
		{Confirmed: *running.Confirmed, Name: "home.yaml"},
		{Confirmed: api.Confirmed{Number: 11, Time: today.Add(-48 * time.Hour)}},
		{Confirmed: api.Confirmed{Number: 10, Time: today.Add(-72 * time.Hour), Author: "kim", Why: "undo of change 9"}, Name: "a-name-that-somebody-took-time-for.yaml"},
	}, nil
}

func (b *backend) Entry(ctx context.Context, number int) (*api.Entry, error) {
	history, err := b.History(ctx)
	for _, e := range history {
		if e.Number == number {
			e.Data = []byte("zones: {}  # as it was\n")
			e.Reach, e.MoreReach, e.Sum = []string{"guest → internet: any becomes possible"}, 2, "5e1f"
			return &e, err
		}
	}
	return nil, api.Unknown(fmt.Errorf("the history has no change %d: it keeps the last 200, and those of a year", number))
}

func (b *backend) Diff(ctx context.Context, from, to int) (*api.Diff, error) {
	if _, err := b.Entry(ctx, from); err != nil {
		return nil, err
	}
	d := &api.Diff{From: from, To: to, Reach: []api.Reach{}}
	switch {
	case from == to:
	case to == 12:
		d.Text, d.Reach = "--- change 11: a.yaml\n+++ change 12: b.yaml\n@@ -1 +1 @@\n-zones: {}\n+zones: {iot: {}}\n", []api.Reach{{From: "iot", To: "internet", Services: []string{"tcp/443"}}}
	default:
		d.Text, d.Untold = "--- change 12: a.yaml\n+++ change 11: b.yaml\n@@ -1 +1 @@\n-zones: {iot: {}}\n+zones: {}\n", "change 11: b.yaml:1:8: zones: no zone is an admin zone"
	}
	return d, nil
}

func (b *backend) Apply(ctx context.Context, c api.Change) (*api.Trial, error) {
	if c.Author != "kim" || c.Why != "guests" || c.Via != api.ViaCLI {
		return nil, fmt.Errorf("author is %q, why is %q, via is %q", c.Author, c.Why, c.Via)
	}
	if b.status.Pending != nil {
		return nil, &api.Busy{Pending: *b.status.Pending}
	}
	p, err := b.Plan(ctx, api.Proposal{File: c.File})
	if err != nil {
		return nil, err
	}
	b.token = c.Token
	return &api.Trial{Token: c.Token, Plan: p, Pending: api.Pending{
		ID: "0123456789ab", Phase: api.Waiting, Author: c.Author, Via: c.Via, Why: c.Why, Name: c.File.Name, Since: today,
		Deadline: today.Add(2 * time.Minute), Left: api.Window(2 * time.Minute), Steps: len(p.Steps), Reach: p.Reach,
	}}, nil
}

func (b *backend) Pending(context.Context) (*api.Trials, error) {
	return &api.Trials{Pending: b.status.Pending, Last: b.status.Last}, nil
}

func (b *backend) Confirm(_ context.Context, c api.Confirm) (*api.Confirmed, error) {
	if c.Token != b.token || c.Token == "" {
		return nil, api.Tell(api.ErrDenied, txn.ErrToken)
	}
	b.token = ""
	return running.Confirmed, nil
}

func (b *backend) Cancel(context.Context, api.Cancel) (*api.Outcome, error) {
	if b.token == "" {
		return nil, api.Tell(api.ErrNothing, txn.ErrNone)
	}
	b.token = ""
	return &api.Outcome{ID: "0123456789ab", Author: "kim", Via: api.ViaCLI, Time: today, End: api.EndCanceled, By: "kim"}, nil
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	var plain, painted bytes.Buffer
	for _, a := range []*app{
		{out: &plain, err: &plain, now: time.Now, location: time.UTC},
		{out: &painted, err: &painted, now: time.Now, location: time.UTC, color: true},
	} {
		if code := a.run(t.Context(), []string{"check", "../../configs/small.yaml"}); code != 0 {
			t.Fatalf("exit code %d: %s", code, a.out)
		}
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(painted.String(), "\x1b[32mok\x1b[m") {
		t.Errorf("plain %q, painted %q", plain.String(), painted.String())
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if colorful(f) {
		t.Error("a file that is no terminal is painted")
	}
}

func TestEveryCommandTellsItsExitCodes(t *testing.T) {
	root := (&app{}).command()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		if !strings.Contains(cmd.Long, "Exit codes") {
			t.Errorf("%s: the help does not say", cmd.CommandPath())
		}
	}
}
