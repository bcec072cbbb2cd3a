package diag_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"bulkhead/netcfg/diag"
)

func Example() {
	var ps diag.List
	ps.Add(diag.Pos{File: "home.yaml", Line: 31, Col: 8}, "zones.iot.vlan",
		`VLAN 20 is already taken by zone "guest" (home.yaml:19:8)`,
		"give iot another ID between 2 and 4094; 21 is free")
	ps.Add(diag.Pos{File: "home.yaml", Line: 12, Col: 1}, "zones.lan.dhpc",
		"unknown key", `did you mean "dhcp"?`)
	ps.Warn(diag.Pos{File: "home.yaml", Line: 2, Col: 1}, "allow.films.expires",
		"expired on 2026-01-31: the rule has no effect", "remove it or give it a later date")
	fmt.Println(ps.Err())
	fmt.Println(ps.Warnings()[0])
	// Output:
	// home.yaml:12:1: zones.lan.dhpc: unknown key
	// 	hint: did you mean "dhcp"?
	// home.yaml:31:8: zones.iot.vlan: VLAN 20 is already taken by zone "guest" (home.yaml:19:8)
	// 	hint: give iot another ID between 2 and 4094; 21 is free
	// home.yaml:2:1: warning: allow.films.expires: expired on 2026-01-31: the rule has no effect
	// 	hint: remove it or give it a later date
}

func TestSeverityIsAWordInJSON(t *testing.T) {
	for want, severity := range map[string]diag.Severity{`"error"`: diag.Error, `"warning"`: diag.Warning} {
		text, err := json.Marshal(severity)
		if err != nil || string(text) != want {
			t.Errorf("got %s, %v, want %s", text, err, want)
		}
		got := diag.Severity(7)
		if err := json.Unmarshal(text, &got); err != nil || got != severity {
			t.Errorf("%s comes back as %v, %v", text, got, err)
		}
	}
	var s diag.Severity
	if err := json.Unmarshal([]byte(`"notice"`), &s); err == nil {
		t.Error("an unknown word was taken")
	}
}
