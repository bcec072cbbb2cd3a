//go:build linux

package main

import (
	"net/url"
	"strings"
	"testing"
)

// TestNewDeviceIsIsolatedOnThePages has a machine come that nobody knows, and somebody look
// at it, isolate it, release it, and give it a name: with the real programs.
func TestNewDeviceIsIsolatedOnThePages(t *testing.T) {
	t.Parallel()
	b := unpack(t)
	state := b.waiting()
	p := b.pages("192.168.77.1")
	p.see("POST", "/claim", url.Values{"name": {"alex"}, "code": {state.Code}}, "/account")
	// The box stays where it is: the zone of the desk is the one that it waits in.
	file := strings.Replace(firstFile, "192.168.10.0/24", "192.168.77.0/24", 1)
	plan := p.see("POST", "/change/plan", url.Values{"file": {file}}, "/change/plan")
	form := url.Values{"base": {"0"}, "name": {hidden(t, plan, "name")}, "data": {hidden(t, plan, "data")}, "why": {"first configuration"}, "minutes": {"5"}}
	page := p.see("POST", "/change/try", form, "/pending")
	p.see("POST", "/pending/keep", url.Values{"id": {hidden(t, page, "id")}}, "/pending?done=kept")

	mac := b.plugIn()
	reaches := func() bool { return b.dial(b.gadgets, "192.168.40.1:53") == nil }
	b.until("the gadget is seen", func() bool {
		reaches() // who is spoken with is known
		_, page, _ := p.ask("GET", "/devices?show=new&zone=gadgets", nil)
		return strings.Contains(page, "/devices/"+mac)
	})
	path := "/devices/" + mac
	p.see("GET", path, nil, path, "This device is new", "192.168.40.99", "What it may reach", "box:")
	page = p.see("POST", path+"/isolate", url.Values{"why": {"who is that?"}, "for": {"1h"}}, path+"?done=isolate", "is isolated</strong> by alex", "“who is that?”", "as it is isolated")
	if !strings.Contains(page, "Release it") {
		t.Errorf("it cannot be released:\n%s", page)
	}
	p.see("GET", "/devices?show=isolated", nil, "/devices?show=isolated", mac)
	p.see("POST", path+"/release", nil, path+"?done=release", "Isolate it")
	// Whoever asks is not let to lock themselves out.
	_, page, _ = p.ask("GET", "/devices?zone=management", nil)
	_, rest, _ := strings.Cut(page, `<th scope="row" role="rowheader"><a href="/devices/`)
	own, _, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("the desk was not seen:\n%s", page)
	}
	if _, page, err := p.ask("POST", "/devices/"+own+"/isolate", nil); err == nil || !strings.Contains(page, `role="alert"`) || !strings.Contains(page, "Isolate it") {
		t.Errorf("alex isolates alex: %v\n%s", err, page)
	}
	add := url.Values{"name": {"gadget"}, "zone": {"gadgets"}, "mac": {mac}, "note": {"found in the hall"}}
	plan = p.see("POST", "/new/name", add, "/new/name", "found in the hall")
	form = url.Values{"base": {hidden(t, plan, "base")}, "name": {hidden(t, plan, "name")}, "data": {hidden(t, plan, "data")}, "why": {"adopt it"}, "minutes": {"2"}}
	page = p.see("POST", "/change/try", form, "/pending")
	p.see("POST", "/pending/keep", url.Values{"id": {hidden(t, page, "id")}}, "/pending?done=kept")
	p.see("GET", "/devices/gadget", nil, "/devices/gadget", mac, "found in the hall", "Rename or describe it")
}
