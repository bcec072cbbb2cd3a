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

func TestExposureSaysWhatIsOpenAndWhatToDo(t *testing.T) {
	data, err := os.ReadFile("../configs/zero-trust.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	cfg, problems := conf.Parse("home.yaml", data, now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
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

func TestSentenceSaysHowItIs(t *testing.T) {
	now := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	up := &facts.Lease{Obtained: now.Add(-75 * time.Hour)}
	for _, tt := range []struct {
		st   api.Status
		want string
	}{
		{api.Status{Mode: api.Running, Applied: true, Uplink: up}, "All zones are up. The internet has been there for 3 days. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Applied: true, NoUplink: true}, "All zones are up. There is no uplink. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Running, Missing: []string{"port trunk"}}, "Not everything is up. There is no internet. 2 new devices since yesterday, 1 refusal in the last hour."},
		{api.Status{Mode: api.Setup}, "There is no configuration yet, and nothing is forwarded."},
		{api.Status{Mode: api.Closed}, "The box is closed: nothing is forwarded, and only admin zones reach it."},
	} {
		tt.st.Now = now
		if got := sentence(&tt.st, 2, 1, true); got != tt.want {
			t.Errorf("got %q\nwant %q", got, tt.want)
		}
	}
}
