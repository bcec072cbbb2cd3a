//go:build linux

package webui

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/services/flow/inventory"
)

// exampleHome is an example configuration, and a time at which it is good.
func exampleHome(t *testing.T) (*model.Config, time.Time) {
	t.Helper()
	data, err := os.ReadFile("../configs/zero-trust.yaml")
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
	text := func(e exposed) string {
		var b strings.Builder
		for _, c := range e.report() {
			fmt.Fprintf(&b, "%s\n", c.Title)
			if len(c.Findings) == 0 {
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
		}
		return b.String()
	}
	got := text(exposed{
		Config: cfg, Now: now, Used: map[string]int{"browsing": 30, "admin": 90, "nextcloud-data": 30}, Oldest: now.AddDate(0, -4, 0),
		Seen:    []inventory.Device{{MAC: model.MAC{2, 0, 0, 0, 0, 1}, Zone: "guest", Vendor: "Acme B.V."}, {Zone: "storage", Known: true}},
		Overdue: []string{"nextdns"}, Built: now.AddDate(0, 0, -100),
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
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// What is not known is not said to be well.
	got = text(exposed{Config: cfg, Now: now, Blind: "flowd does not answer", Built: now.AddDate(0, 0, -1)})
	if strings.Contains(got, "Every rule was used") || strings.Contains(got, "Every device that was seen") || strings.Contains(got, "Nobody has used") || !strings.Contains(got, "It is not known: flowd does not answer.") {
		t.Errorf("without records:\n%s", got)
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
		e := exposed{Config: cfg, Now: now, Oldest: now.AddDate(0, 0, -tt.records), Used: tt.used}
		got := ""
		for _, f := range e.unused().Findings {
			if strings.Contains(f.What, "tv-films") {
				got = f.What
			}
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("records of %d days, used %v: got %q, want %q", tt.records, tt.used, got, tt.want)
		}
	}
}

// A cable that is out is not in order, whatever address the box holds and whatever its port
// is called.
func TestCableIsWhatThePortSays(t *testing.T) {
	for _, tt := range []struct {
		ports []api.Port
		state string
		text  string
	}{
		{[]api.Port{{Name: "enp2s0", Use: "wan", Carrier: true}, {Name: "enp1s0", Use: "fibre", Uplink: true, Carrier: true}}, "good", "port enp1s0 has a carrier"},
		{[]api.Port{{Name: "enp2s0", Use: "wan", Carrier: true}, {Name: "enp1s0", Use: "fibre", Uplink: true}}, "bad", "port enp1s0 has no carrier: is the cable in, and the modem on?"},
		{nil, "bad", "which port is the uplink's is not known"},
	} {
		if got := cableOf(tt.ports); got.State != tt.state || got.Text != tt.text {
			t.Errorf("%+v: got %+v, want %s, %q", tt.ports, got, tt.state, tt.text)
		}
	}
}

func TestSentenceSaysHowItIs(t *testing.T) {
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	lease := &facts.Lease{Obtained: now.Add(-75 * time.Hour)}
	well := &link{Name: "Cable", State: "good", Next: &link{Name: "Address", State: "good"}}
	out := &link{Name: "Cable", State: "bad", Next: &link{Name: "Address", State: "waits"}}
	for _, tt := range []struct {
		st   api.Status
		way  *link
		want string
	}{
		{api.Status{Mode: api.Running, Applied: true, Uplink: lease}, well, "All zones are up. The way to the internet is in order. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, Uplink: lease}, out, "All zones are up. The way to the internet is not in order: Cable. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, NoUplink: true}, nil, "All zones are up. There is no uplink. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Missing: []string{"port trunk"}}, out, "Not everything is up. The way to the internet is not in order: Cable. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Setup}, nil, "There is no configuration yet, and nothing is forwarded."},
		{api.Status{Mode: api.Closed}, nil, "The box is closed: nothing is forwarded, and only admin zones reach it."},
	} {
		tt.st.Now = now
		if got := sentence(&tt.st, tt.way, 2, 1, true); got != tt.want {
			t.Errorf("got %q\nwant %q", got, tt.want)
		}
	}
}
