//go:build linux

package webui

import (
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
)

// boxPages are about the network.
var boxPages = []page{
	{"GET /{$}", access.Read, "Overview", true, (*visit).overviewPage},
}

// overviewView is how the box is.
type overviewView struct {
	Sentence string
	Mode     api.Mode
	Warnings []string
	Facts    []fact
}

type fact struct{ Name, Text string }

func (v *visit) overviewPage() error {
	st, err := v.box().Status(v.Context())
	if err != nil {
		return err
	}
	v.status = st
	view := overviewView{Sentence: sentence(st.Mode), Mode: st.Mode, Warnings: st.Troubles}
	if st.Reason != "" {
		view.Warnings = append(view.Warnings, st.Reason)
	}
	return v.show("overview", view)
}

// sentence is what the box does as a whole.
func sentence(m api.Mode) string {
	switch m {
	case api.Running:
		return "The confirmed configuration is in force."
	case api.Setup:
		return "There is no configuration yet, and nothing is forwarded."
	}
	return "The box is closed: nothing is forwarded, and only admin zones reach it."
}

// banner says on every page that a change is pending.
type banner struct {
	Author, Why string
	Left        int // seconds
	LeftText    string
	Mine        bool
}

func (v *visit) banner() *banner {
	st := v.look()
	if st == nil || st.Pending == nil {
		return nil
	}
	p := st.Pending
	b := &banner{Author: p.Author, Why: p.Why, Left: int(time.Duration(p.Left).Seconds()), LeftText: p.Left.String(), Mine: v.mine(p)}
	if b.Author == "" {
		b.Author = "somebody"
	}
	return b
}

// mine reports whether a change seems to be the visitor's. netcfgd knows.
func (v *visit) mine(p *api.Pending) bool { return p.Author == v.caller.Name && p.Via == api.ViaUI }
