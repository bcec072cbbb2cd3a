//go:build linux

package webui

import (
	"net/url"
	"time"

	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
)

// reportPages are what is written about the network as a whole.
var reportPages = []page{
	{"GET /exposure", access.Read, "Exposure", true, (*visit).exposurePage},
	{"GET /handbook", access.Read, "Handbook", true, (*visit).handbookPage},
	{"GET /handbook.md", access.Read, "", false, (*visit).handbookFile},
}

// exposureView is the report, as a checklist.
type exposureView struct {
	Concerns []concern
	Open     int // findings about which something is to be done
	Made     when
}

func (v *visit) exposurePage() error {
	c, err := v.known()
	if err != nil {
		return err
	}
	st, err := v.box().Status(v.Context())
	if err != nil {
		return err // without it, no secret would be old
	}
	v.status = st
	now := time.Now()
	e := exposed{Config: c.Config, Now: now, Built: v.s.image.Built, Overdue: st.Overdue}
	needs, err := askFlowd[flows.Needs](v, "/v1/flows/needs", url.Values{"since": {now.Add(-time.Minute).UTC().Format(time.RFC3339)}})
	if err == nil {
		e.Used, e.Oldest = needs.Used, needs.Oldest
		e.Seen, err = askFlowd[[]inventory.Device](v, "/v1/devices/seen", nil)
	}
	if err != nil {
		e.Blind = err.Error()
	}
	view := exposureView{Concerns: e.report(), Made: v.when(now)}
	for _, c := range view.Concerns {
		for _, f := range c.Findings {
			if !f.Good {
				view.Open++
			}
		}
	}
	return v.show("exposure", view)
}

func (v *visit) handbook() (*handbook, error) {
	c, err := v.known()
	if err != nil {
		return nil, err
	}
	m, err := v.box().Matrix(v.Context())
	if err != nil {
		return nil, err
	}
	return handbookOf(c.Config, m, c.Number, time.Now()), nil
}

func (v *visit) handbookPage() error {
	h, err := v.handbook()
	if err != nil {
		return err
	}
	return v.show("handbook", h)
}

func (v *visit) handbookFile() error {
	h, err := v.handbook()
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
	v.w.Header().Set("Content-Disposition", `attachment; filename="handbook.md"`)
	_, _ = v.w.Write([]byte(h.markdown())) // a browser that left needs none
	return nil
}
