//go:build linux

package webui

import (
	"net/url"
	"time"

	"bulkhead/services/auth/access"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
	"bulkhead/webui/report"
)

// reportPages are what is written about the network as a whole.
var reportPages = []page{
	{"GET /exposure", access.Read, "Exposure", true, (*visit).exposurePage},
	{"GET /handbook", access.Read, "Handbook", true, (*visit).handbookPage},
	{"GET /handbook.md", access.Read, "", false, (*visit).handbookFile},
}

// exposureView is the report, as a checklist.
type exposureView struct {
	report.Exposure
	When when
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
	facts := report.Facts{Config: c.Config, Now: now, Built: v.s.image.Built, Status: st}
	checks, err := v.askChecks()
	if err != nil {
		facts.Unasked = updateError(err).Error()
	}
	for _, c := range checks {
		if c.Error != "" {
			facts.Silent = append(facts.Silent, c.What+": "+c.Error)
		}
	}
	needs, err := askFlowd[flows.Needs](v, "/v1/flows/needs", url.Values{"since": {now.Add(-time.Minute).UTC().Format(time.RFC3339)}})
	if err == nil {
		facts.Used, facts.Oldest = needs.Used, needs.Oldest
		facts.Seen, err = askFlowd[[]inventory.Device](v, "/v1/devices/seen", nil)
	}
	if err != nil {
		facts.Blind = err.Error()
	}
	return v.show("exposure", exposureView{facts.Exposure(), v.when(now)})
}

func (v *visit) handbook() (*report.Handbook, error) {
	c, err := v.known()
	if err != nil {
		return nil, err
	}
	m, err := v.box().Matrix(v.Context())
	if err != nil {
		return nil, err
	}
	return report.NewHandbook(c.Config, m, c.Number, time.Now()), nil
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
	_, _ = v.w.Write([]byte(h.Markdown())) // a browser that left needs none
	return nil
}
