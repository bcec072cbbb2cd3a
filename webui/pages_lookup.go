//go:build linux

package webui

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	auth "bulkhead/services/auth/api"
	update "bulkhead/services/update/api"
)

// lookupView asks the box's DNS server as a device in a zone would.
type lookupView struct {
	Tabs  []navItem
	Zones []string
	Types []string
	Zone  string // as they were typed
	Name  string
	Type  string
	Out   *update.Lookup // nil: nothing was asked yet
	Code  string         // in words
	Error string
}

// codeTexts are the codes of answers, in words.
var codeTexts = map[string]string{
	"NOERROR":  "The name is there.",
	"NXDOMAIN": "There is no such name, or the box keeps it from devices.",
	"SERVFAIL": "No resolver could tell.",
	"REFUSED":  "The box does not answer that to this zone.",
}

func (v *visit) lookupPage() error {
	zones, err := v.box().Zones(v.Context())
	if err != nil {
		return err
	}
	q := v.URL.Query()
	view := lookupView{Tabs: v.tabs(), Types: update.LookupTypes, Zone: q.Get("zone"), Name: strings.TrimSpace(q.Get("name")), Type: or(q.Get("type"), "A")}
	for _, z := range zones {
		if z.DNS {
			view.Zones = append(view.Zones, z.Name)
		}
	}
	if !q.Has("name") {
		return v.show("lookup", view)
	}
	if !slices.Contains(view.Zones, view.Zone) {
		view.Error = "choose a zone that has DNS"
		return v.showAs(http.StatusUnprocessableEntity, "lookup", view)
	}
	out, err := v.updates().Lookup(v.Context(), view.Zone, view.Name, view.Type)
	if err != nil {
		err = updateError(err)
		status, _ := statusOfPage(err)
		if no, ok := errors.AsType[*auth.Refusal](err); ok {
			status = no.Status
		}
		view.Error = err.Error()
		return v.showAs(status, "lookup", view)
	}
	view.Out, view.Code = &out, codeTexts[out.Code]
	return v.show("lookup", view)
}
