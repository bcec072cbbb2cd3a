package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
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
