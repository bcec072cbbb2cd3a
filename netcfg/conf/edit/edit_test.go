package edit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/conf/edit"
)

// head is what every file of the tests begins with.
const head = `ports: {lan: {mac: "52:54:00:00:00:01"}, wan: {mac: "52:54:00:00:00:02"}}
internet: {port: wan}
`

const zones = `zones:
  home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
  iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
`

const devices = `devices:
  nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
  tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
`

func films() edit.Rule {
	return edit.Rule{Name: "films", From: []string{"tv"}, To: []string{"nas"}, Protocols: []string{"smb"}, Why: "films, and series"}
}

// TestApply shows what edits do to a text: only what stands behind "-" and "+" changes.
func TestApply(t *testing.T) {
	for _, tt := range []struct {
		name         string
		before, edit string // behind the head: edit is the same with the edit's diff in it
		what         edit.Edit
	}{
		{"a rule to a list that is not there", zones + devices, ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
   nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
   tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
+
+allow:
+  - name: films
+    from: tv
+    to: nas
+    protocols: [smb]
+    why: films, and series
`, edit.AddRule(edit.Allow, films())},
		{"a rule to a list with brackets and comments", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
   nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
   tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
 allow:
     # ours
     - {name: web, from: home, to: internet, protocols: any, why: all}   # of it
     # - {name: off}
+    - {name: films, from: tv, to: nas, protocols: [smb], why: "films, and series"}
 
 # What stays closed.
 block: []
`, edit.AddRule(edit.Allow, films())},
		{"a rule to lists that are empty", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
-block: []   # nothing
+block: [{name: quiet, from: iot, to: internet, why: "it: talks"}]   # nothing
 # end
`, edit.AddRule(edit.Block, edit.Rule{Name: "quiet", From: []string{"iot"}, To: []string{"internet"}, Why: "it: talks"})},
		{"a rule to a list that is null", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
-block: ~ # none yet
+block: # none yet
+  - name: quiet
+    from: iot
+    to: internet
+    why: talks
 # end
`, edit.AddRule(edit.Block, edit.Rule{Name: "quiet", From: []string{"iot"}, To: []string{"internet"}, Why: "talks"})},
		{"blank lines between rules", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 block:
 - name: a
   from: iot
   to: internet
   why: x
 
 - name: b
   from: iot
   to: home
   why: y
+
+- name: quiet
+  from: [iot, home]
+  to: internet
+  why: talks
 
 # end
`, edit.AddRule(edit.Block, edit.Rule{Name: "quiet", From: []string{"iot", "home"}, To: []string{"internet"}, Why: "talks"})},
		{"keys of a rule", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 allow:
   - name: web
     to: [internet, iot]   # out
     from:
       - 'home'  # us
-      - iot
     protocols: any
-    why: "all"
+    why: "surfing: 50%"
+    owner: kim
-    expires: 2027-01-31 # then look again
 # end
`, edit.SetRule(edit.Allow, "web", edit.Rule{
			Name: "web", From: []string{"home"}, To: []string{"internet", "iot"}, Protocols: []string{"any"}, Why: "surfing: 50%", Owner: "kim",
		})},
		{"members of lists", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 allow:
-  - name: web
+  - name: browsing
     from:
-    - iot # gadgets
     - 'home'
+    - 10.0.1.9
-    to: internet
+    to: [internet, iot]
     why: all
     protocols: [
-      'https', http,   # the web
-      ntp   # time
+      'https', dns, tcp/99   # time
     ]
`, edit.SetRule(edit.Allow, "web", edit.Rule{
			Name: "browsing", From: []string{"home", "10.0.1.9"}, To: []string{"internet", "iot"}, Protocols: []string{"https", "dns", "tcp/99"}, Why: "all",
		})},
		{"a rule is removed", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 block:
   - {name: a, from: iot, to: internet, why: x}
 
   # B stays.
-  -
-    name: b # the name
-    # and the rest
-    from: iot
-    to: home
-    why: y
 
   - {name: c, from: home, to: internet, why: z}
`, edit.RemoveRule(edit.Block, "b")},
		{"the last rule is removed", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 block: # all
-  - {name: a, from: iot, to: internet, why: x}
`, edit.RemoveRule(edit.Block, "a")},
		{"a device", zones + devices, ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
   nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
   tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
+  pc:  {zone: home, mac: "52:54:00:00:01:03", owner: kim, purpose: "#1", note: "große \"Kiste\"", critical: true}
`, edit.AddDevice(edit.Device{Name: "pc", Zone: "home", MAC: "52:54:00:00:01:03", Owner: "kim", Purpose: "#1", Note: `große "Kiste"`, Critical: true})},
		{"keys of a device", zones + devices, ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
-  nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
+  nas: {zone: home, mac: "52:54:00:00:01:01", purpose: "yes", critical: true}
   tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
`, edit.SetDevice("nas", edit.Device{Name: "nas", Zone: "home", MAC: "52:54:00:00:01:01", Purpose: "yes", Critical: true})},
		{"a key of a device", zones + devices, ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
   nas: {zone: home, mac: "52:54:00:00:01:01", address: 10.0.0.10}
-  tv:  {zone: iot, mac: "52:54:00:00:01:02"} # in the hall
+  tv:  {zone: iot, mac: "52:54:00:00:01:02", address: 10.0.1.10} # in the hall
`, edit.SetDeviceKey("tv", "address", "10.0.1.10")},
		{"another name for a device", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
 devices:
-  tv:      {zone: iot, mac: "52:54:00:00:01:02", owner: tv}
+  screen:  {zone: iot, mac: "52:54:00:00:01:02", owner: tv}
   tv-door: {zone: iot, mac: "52:54:00:00:01:03"}
-groups: {players: [tv, tv-door]}
+groups: {players: [screen, tv-door]}
 allow:
   - name: tv
-    from: "tv"
+    from: "screen"
     to: internet
     protocols: any
     why: tv
 forwards:
   - name: into
-    to: tv # yes
+    to: screen # yes
     protocols: tcp/99
     owner: kim
     why: x
     expires: 2027-01-31
 tests:
-  - {from: internet, to: [tv-door, tv], protocols: any, expect: deny}
+  - {from: internet, to: [tv-door, screen], protocols: any, expect: deny}
 export:
-  log: {format: syslog, to: udp://tv:514}
+  log: {format: syslog, to: udp://screen:514}
`, edit.RenameDevice("tv", "screen")},
		{"DHCP of a zone", zones, ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
-  iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
+  iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24, dhcp: {pool: 10.0.1.50-10.0.1.60, lease: 1h30m, ntp: 10.0.0.10}}
`, edit.SetDHCP("iot", edit.DHCP{Pool: "10.0.1.50-10.0.1.60", Lease: "1h30m", NTP: []string{"10.0.0.10"}})},
		{"DHCP of a zone with lines of its own", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot:
     port: lan
     vlan: 2
     dhcp:
-      pool: 10.0.1.50-10.0.1.60 # few
       # a working day
-      lease: 8h
+      lease: 9h
     subnet: 10.0.1.0/24
`, edit.SetDHCP("iot", edit.DHCP{Lease: "9h"})},
		{"no DHCP", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
   iot:
     port: lan
     vlan: 2
-    dhcp:
+    dhcp: false
-      lease: 8h
     subnet: 10.0.1.0/24
`, edit.SetDHCP("iot", edit.DHCP{Off: true})},
		{"DHCP again", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
-  iot: {port: lan, vlan: 2, dhcp: false, subnet: 10.0.1.0/24}
+  iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
`, edit.SetDHCP("iot", edit.DHCP{})},
		{"DNS", "", ` zones:
   home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
-  iot: {port: lan, vlan: 2, dns: {block: a.example, force: true}, subnet: 10.0.1.0/24}
+  iot: {port: lan, vlan: 2, dns: {block: [a.example, b.example], force: false}, subnet: 10.0.1.0/24}
`, edit.SetDNS("iot", edit.DNS{Block: []string{"a.example", "b.example"}})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, after := sides(tt.edit)
			if tt.before != "" && tt.before != before {
				t.Fatalf("the test's texts differ:\n%s", cmp.Diff(tt.before, before))
			}
			for _, end := range []struct{ name, eol string }{{"", "\n"}, {"CRLF", "\r\n"}} {
				eol := func(s string) string { return strings.ReplaceAll(head+s, "\n", end.eol) }
				got, err := edit.Apply([]byte(eol(before)), tt.what)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(eol(after), string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", end.name, diff)
				}
				// A file may lack its last line's end.
				got, err = edit.Apply([]byte(strings.TrimSuffix(eol(before), end.eol)), tt.what)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(strings.TrimSuffix(eol(after), end.eol), string(got)); diff != "" {
					t.Errorf("%s without a last line end (-want +got):\n%s", end.name, diff)
				}
			}
		})
	}
}

// sides takes a difference apart.
func sides(diff string) (before, after string) {
	for l := range strings.Lines(diff) {
		switch l[0] {
		case '-':
			before += l[1:]
		case '+':
			after += l[1:]
		default:
			before += l[1:]
			after += l[1:]
		}
	}
	return before, after
}

func TestRefusals(t *testing.T) {
	file := []byte(head + zones + devices + "allow: [{name: films, from: tv, to: nas, protocols: smb, why: x}]\n")
	for _, tt := range []struct {
		name string
		what edit.Edit
		want string // in the error
		key  string // of the problem; "": it is no [edit.Refused]
	}{
		{"a name that is taken", edit.AddRule(edit.Allow, films()), `"films" is there already`, ""},
		{"a name that another list has", edit.AddRule(edit.Block, films()), `"films" is already taken`, "block.films.name"},
		{"no name", edit.AddRule(edit.Allow, edit.Rule{From: []string{"tv"}, To: []string{"nas"}, Protocols: []string{"any"}, Why: "x"}), `key "name" is missing`, "allow[1]"},
		{"a name with a line end", edit.SetDeviceKey("tv", "owner", "kim\nx: y"), `'\n', which cannot stand here`, "devices.tv.owner"},
		{"a letter", edit.SetDeviceKey("tv", "owner", "J\u00fcrgen \u2028 \U0001f600 \""), `character 2 is 'ü'`, "devices.tv.owner"},
		{"bytes", edit.SetDeviceKey("tv", "owner", "\xff"), "is not text", ""},
		{"a long text", edit.SetDeviceKey("tv", "owner", strings.Repeat("long ", 40)), "the limit is 80", "devices.tv.owner"},
		{"a far too long text", edit.SetDeviceKey("tv", "owner", strings.Repeat("long ", 4000)), "20000 bytes long", ""},
		{"a key that devices lack", edit.SetDeviceKey("tv", "colour", "red"), `no text "colour"`, ""},
		{"a device that is named", edit.RemoveDevice("tv"), "still named by allow.films", ""},
		{"a device that is not there", edit.RenameDevice("radio", "tv"), `no device is called "radio"`, ""},
		{"a zone that is not there", edit.SetDHCP("lab", edit.DHCP{Off: true}), `no zone is called "lab"`, ""},
		{"a name that a zone has", edit.RenameDevice("tv", "home"), `"home" is already a zone`, "devices.home"},
		{"a name that is none", edit.RenameDevice("tv", "a: b"), `"a: b" is not a name`, "devices.a: b"},
		{"a secret", edit.SetDeviceKey("tv", "owner", "ghp_0123456789012345678901234567890123456789"), "looks like a GitHub token", ""},
		{"a text that is not what was meant", edit.Astray("why: x", "why: y"), "edit its text", ""},
		{"a text that is none", edit.Astray("why: x", "why: {"), "edit its text", ""},
		{"a pool in another zone", edit.SetDHCP("iot", edit.DHCP{Pool: "10.0.0.5-10.0.0.6"}), "is not within the subnet", "zones.iot.dhcp.pool"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := edit.Apply(file, tt.what)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q; file\n%s", err, tt.want, out)
			}
			r, refused := errors.AsType[*edit.Refused](err)
			if refused && tt.key != "" && r.Problems.Sorted()[0].Key != tt.key {
				t.Errorf("at %q, want %q", r.Problems.Sorted()[0].Key, tt.key)
			}
			if !refused && tt.key != "" {
				t.Errorf("%v is no refusal by conf", err)
			}
		})
	}
}

// TestWhatTheFileSays reads values as forms show them, and writes the same back.
func TestWhatTheFileSays(t *testing.T) {
	for _, name := range examples(t) {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, list := conf.Parse(name, file, time.Time{})
		if list.Err() != nil {
			t.Fatal(list.Err())
		}
		var edits []edit.Edit
		for _, r := range cfg.Allow {
			edits = append(edits, edit.SetRule(edit.Allow, r.Name, edit.RuleOf(r)))
		}
		for _, r := range cfg.Block {
			e := edit.RuleOf(r)
			if !strings.Contains(string(file), "protocols: any\n    why: "+r.Why) {
				e.Protocols = nil
			}
			edits = append(edits, edit.SetRule(edit.Block, r.Name, e))
		}
		for _, f := range cfg.Forwards {
			edits = append(edits, edit.SetForward(f.Name, edit.ForwardOf(f)))
		}
		for _, d := range cfg.Devices {
			edits = append(edits, edit.SetDevice(d.Name, edit.DeviceOf(d)), edit.RenameDevice(d.Name, d.Name))
		}
		for _, z := range cfg.Zones {
			dhcp, err := edit.DHCPOf(file, z.Name)
			if err != nil {
				t.Fatal(err)
			}
			dns, err := edit.DNSOf(file, z.Name)
			if err != nil {
				t.Fatal(err)
			}
			edits = append(edits, edit.SetDHCP(z.Name, dhcp), edit.SetDNS(z.Name, dns))
		}
		got, err := edit.Apply(file, edits...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(file), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// examples are files of the language.
func examples(tb testing.TB) []string {
	tb.Helper()
	list, err := filepath.Glob("../../../configs/*.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	if len(list) < 3 {
		tb.Fatalf("only %d examples", len(list))
	}
	return list
}
