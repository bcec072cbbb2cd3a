package report_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/services/flow/inventory"
	"bulkhead/webui/report"
)

// exampleHome is an example configuration, and a time at which it is good.
func exampleHome(t *testing.T) (*model.Config, time.Time) {
	t.Helper()
	data, err := os.ReadFile("../../configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	cfg, problems := conf.Parse("home.yaml", data, now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return cfg, now
}

func TestExposureSaysWhatIsOpenAndWhatToDo(t *testing.T) {
	cfg, now := exampleHome(t)
	text := func(e report.Facts) string {
		var b strings.Builder
		for _, c := range e.Exposure().Concerns {
			fmt.Fprintf(&b, "%s\n", c.Title)
			if len(c.Findings) == 0 && c.Empty != "" {
				fmt.Fprintf(&b, "  %s\n", c.Empty)
			}
			for _, f := range c.Findings {
				mark := "!"
				if f.Good {
					mark = "+"
				}
				fmt.Fprintf(&b, "  %s %s %s [%s]\n", mark, f.What, f.Next, f.Path)
				if f.Good == (f.Next != "") {
					t.Errorf("%+v: what is to be done does not fit", f)
				}
			}
			if c.Unknown != "" {
				fmt.Fprintf(&b, "  ? %s\n", c.Unknown)
			}
		}
		x := e.Exposure()
		return b.String() + x.Sentence() + "\n"
	}
	got := text(report.Facts{
		Config: cfg, Now: now, Used: map[string]int{"browsing": 30, "admin": 90, "nextcloud-data": 30}, Oldest: now.AddDate(0, -4, 0),
		Seen:   []inventory.Device{{MAC: model.MAC{2, 0, 0, 0, 0, 1}, Zone: "guest", Vendor: "Acme B.V."}, {Zone: "storage", Known: true}},
		Status: &api.Status{Mode: api.Running, Applied: true, Overdue: []string{"nextdns"}}, Built: now.AddDate(0, 0, -100),
	})
	want := `What the internet can open
  ! udp/51999 at nextcloud, by the forward wireguard-lab: trial of a tunnel. Owner alex, until 2027-01-31. Nobody has used it for a month: close it. [/forwards?q=wireguard-lab]
Which zones reach the management pages
  + Zone management reaches ports 80 and 443 of the box.  [/zones/management/box]
  + Browsers are not asked for a certificate.  [/account/certificates]
Rules that nothing uses
  ! The rule admin (administration from the workstation) decided nothing in 30 days. Remove it, or write down when it is needed. [/rules?q=admin]
  ! The rule tv-films (films) decided nothing in 90 days. Remove it, or write down when it is needed. [/rules?q=tv-films]
Devices that are not in the file
  ! 02:00:00:00:00:01 in zone guest, by Acme B.V. Adopt it, or isolate it. [/devices/02:00:00:00:00:01]
Secrets that are old
  ! The secret nextdns has had its value for more than a year. Make another where it is used, and rotate it here. [/system/secrets]
Age of the system
  ! The system was built 100 days ago. Build or fetch a newer image, and push it. [/system]
What does not work as the file says
  Nothing: every part of the box works as the file says.
6 things to look at. Each has its next step.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got = text(report.Facts{
		Config: cfg, Now: now, Blind: "flowd does not answer", Built: now.AddDate(0, 0, -1), Status: &api.Status{Mode: api.Running, Applied: true}, Unasked: "updated does not answer",
	})
	want = `What the internet can open
  + udp/51999 at nextcloud, by the forward wireguard-lab: trial of a tunnel. Owner alex, until 2027-01-31.  [/forwards?q=wireguard-lab]
  ? Whether it was used: flowd does not answer.
Which zones reach the management pages
  + Zone management reaches ports 80 and 443 of the box.  [/zones/management/box]
  + Browsers are not asked for a certificate.  [/account/certificates]
Rules that nothing uses
  ? Which those are: flowd does not answer.
Devices that are not in the file
  ? Which devices there are: flowd does not answer.
Secrets that are old
  No secret has had its value for more than a year.
Age of the system
  + The system was built 1 day ago.  [/system]
What does not work as the file says
  ? Whether the box’s own programs answer: updated does not answer.
Nothing of what is known is left to look at. Not everything is known: 4 parts below say what is not.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("while services are away (-want +got)\n%s", diff)
	}
	got = text(report.Facts{
		Config: cfg, Now: now, Oldest: now.AddDate(0, 0, -3), Silent: []string{"DNS in zone iot: SERVFAIL"},
		Status: &api.Status{Mode: api.Running, Untaken: []string{"flowd"}, Missing: []string{"port trunk"}, Pending: &api.Pending{}},
	})
	for _, want := range []string{
		"? Whether it was used: records do not go back a month yet.", "? When the system was built", "! Missing: port trunk. See to it", "perhaps do not run: flowd. See to it",
		"! There is no answer from DNS in zone iot: SERVFAIL. See to it", "! Another file is being tried", "\n4 things to look at. Each has its next step. Not everything is known: 3 parts below",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
}

// How long a rule was of no use is said as far as records go back, and no further.
func TestUnusedRulesAreOldAsRecordsSay(t *testing.T) {
	cfg, now := exampleHome(t)
	for _, tt := range []struct {
		records int // days
		used    map[string]int
		want    string // of the rule tv-films; "": nothing
	}{
		{29, nil, ""},
		{30, nil, "in 30 days"},
		{89, nil, "in 30 days"},
		{90, nil, "in 90 days"},
		{120, map[string]int{"tv-films": 90}, "in 30 days"},
		{120, map[string]int{"tv-films": 30}, ""},
	} {
		e := report.Facts{Config: cfg, Now: now, Oldest: now.AddDate(0, 0, -tt.records), Used: tt.used, Status: new(api.Status)}
		got := ""
		for _, f := range e.Exposure().Concerns[2].Findings {
			if strings.Contains(f.What, "tv-films") {
				got = f.What
			}
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("records of %d days, used %v: got %q, want %q", tt.records, tt.used, got, tt.want)
		}
	}
}
