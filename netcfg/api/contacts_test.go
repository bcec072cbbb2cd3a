package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
)

func TestContactsAreWhatIsAllowed(t *testing.T) {
	p := office(t)
	of := func(name string) (to, from []string) {
		t.Helper()
		e, err := conf.Endpoints(p.Config, name)
		if err != nil {
			t.Fatal(err)
		}
		c := api.ContactsOf(p, e)
		for _, v := range c.To {
			to = append(to, v.String())
		}
		for _, v := range c.From {
			from = append(from, v.String())
		}
		return to, from
	}
	has := func(list []string, start string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, start) })
	}
	to, from := of("git")
	if !has(to, "git → internet: tcp/443, udp/123 is allowed by updates") || has(to, "git → guest") || has(to, "git → servers") {
		t.Errorf("git may reach\n%s", strings.Join(to, "\n"))
	}
	// Of a zone to which nothing is allowed, those are named to whom something is.
	if !has(from, "clients → git: tcp/22, tcp/443") || !has(from, "runner-1 → git: tcp/22") || has(from, "workloads → git") || has(from, "guest") {
		t.Errorf("git is reached by\n%s", strings.Join(from, "\n"))
	}
	if to, _ := of("camera"); has(to, "camera → internet") {
		t.Errorf("the camera may reach\n%s", strings.Join(to, "\n"))
	}
}

// TestContactsAgreeWithWhy asks about each device and zone as why does, with all rules.
func TestContactsAgreeWithWhy(t *testing.T) {
	p := office(t)
	names := []string{"box", "internet", "10.20.20.40", "10.20.20.32/28", "runners"}
	for _, d := range p.Config.Devices {
		names = append(names, d.Name)
	}
	for _, z := range p.Config.Zones {
		names = append(names, z.Name)
	}
	for _, name := range names {
		of, err := conf.Endpoints(p.Config, name)
		if err != nil {
			t.Fatal(err)
		}
		c := api.ContactsOf(p, of)
		var to, from []api.Verdict
		for _, e := range of {
			for _, party := range append(names[len(names)-len(p.Config.Zones):], "internet", "box") {
				other, err := conf.Endpoints(p.Config, party)
				if err != nil {
					t.Fatal(err)
				}
				anything := []model.Service{{Any: true}}
				to = append(to, allowed(api.Explain(p, []model.Endpoint{e}, other, anything))...)
				from = append(from, allowed(api.Explain(p, other, []model.Endpoint{e}, anything))...)
			}
		}
		if diff := cmp.Diff(to, allowed(c.To)); diff != "" {
			t.Errorf("%s: what it may reach differs (-why +contacts):\n%s", name, diff)
		}
		if diff := cmp.Diff(from, allowed(c.From)); diff != "" {
			t.Errorf("%s: who may reach it differs (-why +contacts):\n%s", name, diff)
		}
	}
}

// allowed are the verdicts that allow something.
func allowed(list []api.Verdict) (some []api.Verdict) {
	for _, v := range list {
		if v.Allow {
			some = append(some, v)
		}
	}
	return some
}

func (b backend) Contacts(_ context.Context, of string) (*api.Contacts, error) {
	if of != "tv & co" {
		return nil, api.Unknown(errors.New("nobody is called that"))
	}
	return &api.Contacts{Of: of, To: []api.Verdict{{From: of, To: "nas", Services: []string{"tcp/445"}, Allow: true}}}, nil
}

func TestContactsArrive(t *testing.T) {
	c, _ := serve(t, backend{})
	got, err := c.Contacts(t.Context(), "tv & co")
	if err != nil || len(got.To) != 1 || got.To[0].String() != "tv & co → nas: tcp/445 is allowed: " {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.Contacts(t.Context(), "tvv"); !errors.Is(err, api.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
