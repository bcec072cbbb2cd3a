package console_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/facts"
	"bulkhead/services/auth/access"
	"bulkhead/services/console"
	update "bulkhead/services/update/api"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

var (
	now      = time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	standard = console.NewSize(80, 24)
)

var fingerprint = access.Fingerprint{0x9f, 0x3a, 0x51, 0x0c, 0x77, 0xe2, 31: 0xb5}

// unclaimed is a box that was just switched on for the first time.
func unclaimed() console.Answers {
	return console.Answers{
		Version: "2026.11.27-abcdef0",
		Status: &api.Status{Mode: api.Setup, Now: now,
			Reason: "no configuration has been applied yet: on a computer at port enp1s0, run: bulkhead claim 192.168.77.1"},
		Zones: []api.Zone{{Name: "management", Port: "enp1s0", Link: "enp1s0", Subnet: netip.MustParsePrefix("192.168.77.0/24"),
			Gateway: netip.MustParseAddr("192.168.77.1"), Admin: true, DHCP: true}},
		Systems: &update.Status{Slot: "a", Version: "2026.11.27-abcdef0", Other: update.Other{State: "disabled"}},
		Claim:   &access.State{Code: "4X7M-09QT-ZK3A-B1CD", Identity: access.Identity{Fingerprint: fingerprint, Addresses: []netip.Addr{netip.MustParseAddr("192.168.77.1")}}},
	}
}

// running is a box in daily life.
func running() console.Answers {
	zone := func(name, subnet string, gateway string, leases int) api.Zone {
		return api.Zone{Name: name, Port: "trunk", Link: "enp2s0." + gateway[8:10], Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParseAddr(gateway),
			Admin: name == "management", DHCP: true, DNS: true, Leases: leases}
	}
	return console.Answers{
		Version: "2026.11.27-abcdef0",
		Status: &api.Status{
			Name: "gw", Timezone: "Europe/Berlin", Mode: api.Running, Now: now,
			Confirmed: &api.Confirmed{Number: 12, Time: now.Add(-36 * time.Hour), Author: "alex", Why: "the printer moved to services"},
			Repaired:  &api.Repair{Time: now.Add(-2 * time.Hour), Found: []string{"address 10.9.9.9/24 was added to enp2s0.10"}},
			Uplink: &facts.Lease{Link: "enp1s0", Address: netip.MustParsePrefix("203.0.113.7/24"), Gateway: netip.MustParseAddr("203.0.113.1"),
				Resolvers: []netip.Addr{netip.MustParseAddr("203.0.113.53")}},
		},
		Zones: []api.Zone{
			zone("management", "192.168.10.0/24", "192.168.10.1", 3), zone("services", "192.168.20.0/24", "192.168.20.1", 5),
			zone("storage", "192.168.30.0/24", "192.168.30.1", 1), zone("iot", "192.168.40.0/24", "192.168.40.1", 41),
			zone("guest", "192.168.50.0/24", "192.168.50.1", 7),
		},
		Systems: &update.Status{Slot: "a", Version: "2026.11.27-abcdef0", Other: update.Other{Version: "2026.10.02-1234567", State: "good"},
			Last: &update.Outcome{Outcome: update.Kept, Version: "2026.11.27-abcdef0", Time: now.Add(-time.Hour)}},
		Claim: &access.State{Claimed: true, Identity: access.Identity{Fingerprint: fingerprint}},
		Services: []console.Service{
			{Path: "/user/consoled", StartTime: now.Add(-time.Hour)}, {Path: "/user/dhcpd", StartTime: now.Add(-time.Hour)},
			{Path: "/user/dnsd", StartTime: now.Add(-3 * time.Minute)}, {Path: "/user/netcfgd", StartTime: now.Add(-time.Hour)},
			{Path: "/user/updated", StartTime: now.Add(-time.Hour)}, {Path: "/user/wand", Stopped: true}, {Path: "/user/webuid", StartTime: now.Add(-time.Hour)},
		},
	}
}

func TestScreens(t *testing.T) {
	closed := running()
	closed.Status = &api.Status{Name: "gw", Mode: api.Closed, Missing: []string{"port trunk: no network card has MAC 52:54:00:10:00:02"},
		Reason: "the confirmed configuration cannot be read: config.yaml:12:3: zones.iot.vlan: 40 is used twice on port trunk"}
	trial := running()
	trial.Systems.Trial, trial.Systems.Version, trial.Systems.Slot, trial.Systems.Waiting = true, "2026.11.28-fedcba9", "b", []string{"dnsd in zone iot"}
	trial.Version = "2026.11.28-fedcba9"
	silent := console.Answers{Version: "2026.11.27-abcdef0",
		StatusErr: context.DeadlineExceeded, ZonesErr: context.DeadlineExceeded, SystemsErr: fs.ErrNotExist,
		ClaimErr: errors.New("answers with HTTP status 500"), ServicesErr: fs.ErrNotExist}
	undone := running()
	undone.Systems.Last = &update.Outcome{Outcome: update.Undone, Why: "dnsd did not answer in zone iot", Version: "2026.11.28-fedcba9", Time: now.Add(-time.Hour)}
	unplugged := unclaimed()
	unplugged.Status.Reason = "no configuration has been applied yet: plug a cable into one of its ports: enp1s0"
	unplugged.Zones, unplugged.Claim.Addresses = []api.Zone{}, nil
	pending := running()
	pending.Status.Pending = &api.Pending{Author: "alex", Via: api.ViaCLI, Why: "films", Deadline: now.Add(2 * time.Minute)}
	recode := running()
	recode.Claim.Code = "0000-1111-2222-3333"

	tests := []struct {
		name, why string
		answers   console.Answers
		keys      string
		done      []string
		size      console.Size
		keep      bool // what is done must be kept
	}{
		{"starting", "Nobody was asked yet: the screen is there at once.", console.Answers{Version: "2026.11.27-abcdef0"}, "", nil, standard, false},
		{"unclaimed", "A new box shows how to claim it.", unclaimed(), "", nil, standard, false},
		{"unplugged", "A new box without a cable.", unplugged, "", nil, standard, false},
		{"unclaimed-small", "The code is seen in the smallest window that holds it.", unclaimed(), "", nil, console.NewSize(60, 20), false},
		{"running", "A box in daily life.", running(), "", nil, standard, false},
		{"closed", "A closed box says why.", closed, "", nil, standard, false},
		{"trial", "A new version is on trial.", trial, "", nil, standard, false},
		{"undone", "An update was undone.", undone, "", nil, standard, false},
		{"silent", "The screen says what does not answer.", silent, "", nil, standard, false},
		{"new-code", "A claimed box may have a code as well.", recode, "", nil, standard, false},
		{"wrong-choice", "What means nothing does nothing.", running(), "7\r", nil, standard, false},
		{"state", "The state page, first part.", running(), "1\r", nil, standard, false},
		{"state-2", "The state page, second part.", running(), "1\r\r", nil, standard, false},
		{"state-unplugged", "The state page of a new box without a cable.", unplugged, "1\r", nil, standard, false},
		{"state-silent", "The state page of a box where nothing answers.", silent, "1\r", nil, standard, false},
		{"undo", "Undo says what is in force.", running(), "2\r", nil, standard, false},
		{"undo-nothing", "Undo on a new box.", unclaimed(), "2\r", nil, standard, false},
		{"undo-wrong", "Another word does nothing.", running(), "2\rund\r", nil, standard, false},
		{"undo-working", "The undo takes its time.", running(), "2\rundo\r", nil, standard, false},
		{"undo-done", "What an undo changed, to be kept or not.", running(), "2\rundo\r", []string{"The configuration before the last change is in force, on trial.",
			"guest → internet: any is no longer possible"}, standard, true},
		{"pending", "A change is on trial.", pending, "", nil, standard, false},
		{"pending-undo", "A change on trial is undone before the last that was confirmed.", pending, "2\r", nil, standard, false},
		{"boot", "Boot the other root.", running(), "3\r", nil, standard, false},
		{"code", "A new code.", running(), "4\r", nil, standard, false},
		{"reset", "Factory reset asks for the name of the box.", running(), "5\r", nil, standard, false},
		{"reset-nameless", "A box without a name can be reset, too.", silent, "5\r", nil, standard, false},
		{"restart", "Restart on trial gives the update up.", trial, "6\r", nil, standard, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, m := tt.answers.World(), new(console.Model)
			m.View(w, tt.size)
			for _, line := range strings.SplitAfter(tt.keys, "\r") {
				m.Type(line, w, now)
				m.View(w, tt.size)
			}
			switch {
			case tt.done != nil && tt.keep:
				m.DoneKeep(tt.done...)
			case tt.done != nil:
				m.Done(tt.done...)
			}
			lines := m.View(w, tt.size)
			fits(t, lines, tt.size)
			golden(t, tt.name, tt.why+"\n\n"+strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestUndoThatLocksOutIsAskedAboutAgain(t *testing.T) {
	w, m := running().World(), new(console.Model)
	m.Type("2\rundo\r", w, now)
	m.DoneLockout("Nothing was undone: this would lock you out: no admin zone could reach the box: management: port lan is missing.")
	lines := m.View(w, standard)
	fits(t, lines, standard)
	golden(t, "undo-lockout", "An undo that locks out takes more words.\n\n"+strings.Join(lines, "\n")+"\n")
	for keys, want := range map[string][]string{"undo\r": nil, "lock me out\r": {"Undo the last change, and be locked out"}} {
		if diff := cmp.Diff(want, m.Type(keys, w, now)); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", keys, diff)
		}
	}
}

// fits fails if lines are not printable ASCII within a terminal's size.
func fits(t *testing.T, lines []string, s console.Size) {
	t.Helper()
	cols, rows := 80, 24
	if s != standard {
		cols, rows = 60, 20
	}
	if len(lines) > rows {
		t.Errorf("%d lines, more than %d", len(lines), rows)
	}
	for _, line := range lines {
		if len(line) >= cols || console.Printable(line) != line {
			t.Errorf("line %q does not fit", line)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func TestOrdersTakeTheWholeWord(t *testing.T) {
	tests := []struct {
		keys string
		want []string
	}{
		{"2\rundo\r", []string{"Undo the last change"}},
		{"2\r\nundo\r\n", []string{"Undo the last change"}},
		{"2\nundo\n", []string{"Undo the last change"}},
		{"2\r undp\x7fo \r", []string{"Undo the last change"}},
		{"3\rboot\r", []string{"Boot the other root"}},
		{"4\rcode\r", []string{"Set a new claim code"}},
		{"5\rgw\r", []string{"Factory reset"}},
		{"6\rrestart\r", []string{"Restart"}},
		{"2\rno\rundo\r", []string{"Undo the last change"}},
		{"2undo\r", nil},
		{"2\rUndo\r", nil},
		{"2\rundo", nil},
		{"2\rundo\x1b\r", nil},
		{"2\rundo\x03\r", nil},
		{"2\r\rundo\r", nil},
		{"2\r\x1b[[A\x1bOP\x1b[1;5~2\rundo\r", []string{"Undo the last change"}}, // function keys type nothing
		{"2\run\x1b[Ado\r", nil}, // a cursor key leads out, too
		{"5\rerase this box\r", nil},
		{"5\r\"gw\"\r", nil},
		{"1\rundo\r", nil},
		{"2\r" + strings.Repeat("x", 200) + "\x15undo\r", []string{"Undo the last change"}},
		{"2\r" + strings.Repeat("x", 200) + "undo\r", nil},
		{"2\rundo\r3\rboot\r", []string{"Undo the last change"}},     // one at a time: wait
		{"2\rundo\r\x1b3\rboot\r", []string{"Undo the last change"}}, // also after leaving
	}
	for _, tt := range tests {
		w, m := running().World(), new(console.Model)
		m.View(w, standard)
		if diff := cmp.Diff(tt.want, m.Type(tt.keys, w, now)); diff != "" {
			t.Errorf("%q: ordered (-want +got):\n%s", tt.keys, diff)
		}
	}
}

func TestTheWordIsTheOneThatIsShown(t *testing.T) {
	w, m := running().World(), new(console.Model)
	m.Type("5\r", w, now)
	renamed := running()
	renamed.Status.Name = "x"
	if got := m.Type("x\r", renamed.World(), now); got != nil {
		t.Errorf("ordered %v by a word that was not shown", got)
	}
	if got := m.Type("gw\r", renamed.World(), now); len(got) != 1 {
		t.Errorf("ordered %v by the word that was shown", got)
	}
}

func TestNobodyThereLeadsBackToTheFirstScreen(t *testing.T) {
	w, m := running().World(), new(console.Model)
	if wake := m.Wait(now); !wake.IsZero() {
		t.Errorf("the first screen is to end at %v", wake)
	}
	m.Type("5\rg", w, now)
	wake := m.Wait(now)
	if wake.IsZero() || m.Home() {
		t.Fatal("the session has no end")
	}
	if m.Wait(wake); !m.Home() {
		t.Error("the session has not ended")
	}
	if got := m.Type("w\r", w, wake); got != nil {
		t.Errorf("ordered %v after the session ended", got)
	}
}

// TestEchoTypesNothing: a serial line may send back what it is sent.
func TestEchoTypesNothing(t *testing.T) {
	for _, keys := range []string{"", "1\r", "2\r", "3\r", "4\r", "5\r", "6\r", "2\rundo\r", "7\r"} {
		w, m := running().World(), new(console.Model)
		m.Type(keys, w, now)
		for range 10 {
			out := console.Draw(nil, m.View(w, standard))
			if strings.ContainsAny(out, "\r\n") {
				t.Fatalf("after %q: the screen %q has a line end", keys, out)
			}
			if got := m.Type(out, w, now); got != nil {
				t.Fatalf("after %q: the screen orders %v", keys, got)
			}
		}
		if !m.Home() {
			t.Errorf("after %q: the echo does not lead back to the first screen", keys)
		}
	}
}

func TestNamesDoNotCommandTheTerminal(t *testing.T) {
	a := running()
	a.Status.Name = "gw\x1b[2J\x9b31m\r\n\u202e\u2028é→"
	a.Status.Confirmed.Why = "\x1b]0;x\x07" + strings.Repeat("long ", 1000)
	w, m := a.World(), new(console.Model)
	for _, keys := range []string{"", "1\r", "\x1b2\r", "\x1b5\r"} {
		m.Type(keys, w, now)
		fits(t, m.View(w, standard), standard)
	}
	if got := console.Printable("\x1b[2J→ü\x9b\u202e"); got != "?[2J->ue??" {
		t.Errorf("got %q", got)
	}
}

// FuzzKeys: no noise breaks a session, and none orders anything but by a word.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("2\rundo\r"), 80, 24)
	f.Add([]byte("1\r\r\r5\rg\x7f\x1b[A\x00\xff"), 20, 1)
	f.Add([]byte("\x1b[1;5\x1bOP\x9b\x84\x0f2\r\n\n"), 0, 0)
	words := map[string]string{"Undo the last change": "undo", "Boot the other root": "boot", "Set a new claim code": "code", "Factory reset": "gw", "Restart": "restart"}
	f.Fuzz(func(t *testing.T, keys []byte, cols, rows int) {
		keys = keys[:min(len(keys), 2000)] // each is a screen
		w, m := running().World(), new(console.Model)
		s := console.NewSize(cols%300, rows%100)
		shown := m.View(w, s)
		typed := ""
		for _, k := range keys {
			for _, title := range m.Type(string([]byte{k}), w, now) {
				if !spelled(typed, words[title]) {
					t.Fatalf("%q ordered %s", typed, title)
				}
				m.Done("done")
			}
			typed += string([]byte{k})
			next := m.View(w, s)
			for _, line := range next {
				if console.Printable(line) != line {
					t.Fatalf("line %q", line)
				}
			}
			console.Draw(shown, next)
			shown = next
		}
	})
}

// spelled reports whether the letters of word are in typed, in order: editing may lie
// between them.
func spelled(typed, word string) bool {
	for _, c := range []byte(word) {
		i := strings.IndexByte(typed, c)
		if i < 0 {
			return false
		}
		typed = typed[i+1:]
	}
	return true
}

func TestTerminals(t *testing.T) {
	for active, want := range map[string][]string{
		"tty0 ttyS0\n":      {"tty1", "ttyS0"},
		"ttyAMA0\n":         {"ttyAMA0"},
		"tty0 tty1 ../mem":  {"tty1"},
		"\n":                nil,
		"hvc0 ttyS0 ttyS0 ": {"hvc0", "ttyS0"},
	} {
		if diff := cmp.Diff(want, console.Terminals(active)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", active, diff)
		}
	}
}
