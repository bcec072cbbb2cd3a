package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
	updates "bulkhead/services/update/api"
	reports "bulkhead/webui/report"
)

func (a *app) exposureCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exposure",
		Short: "Report what is open, and what should be looked at",
		Long: `Report what the internet can open, which zones reach the management pages, rules that
nothing uses, devices that are not in the file, old secrets, and the age of the system:
each with the next small step, where there is one to take. What is not known is said.

` + exitHelp,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.exposure(cmd.Context()) },
	}
}

// standing is a box with the file that is in force.
type standing struct {
	box    *api.Client
	cfg    *model.Config
	status *api.Status
}

func (a *app) standing(ctx context.Context) (s standing, err error) {
	if s.cfg, err = a.confirmedConfig(ctx); err != nil {
		return s, err
	}
	a.location = s.cfg.System.Location
	if s.box, err = a.client(ctx); err != nil {
		return s, err
	}
	s.status, err = s.box.Status(ctx)
	return s, err
}

func (a *app) exposure(ctx context.Context) error {
	s, err := a.standing(ctx)
	if err != nil {
		return err
	}
	now := s.status.Now
	f := reports.Facts{Config: s.cfg, Now: now, Status: s.status}
	var needs flows.Needs
	err = a.askFlowd(ctx, "/v1/flows/needs", url.Values{"since": {now.Add(-time.Minute).UTC().Format(time.RFC3339)}}, &needs)
	if err == nil {
		f.Used, f.Oldest = needs.Used, needs.Oldest
		err = a.askFlowd(ctx, "/v1/devices/seen", nil, &f.Seen)
	}
	if err != nil {
		f.Blind, f.Seen = err.Error(), []inventory.Device{}
	}
	a.askUpdated(ctx, &f)
	r := f.Exposure()
	if a.json {
		return a.printJSON(r)
	}
	a.printExposure(&r)
	return nil
}

// askUpdated finds out how old the system is, and whether the box's programs answer.
func (a *app) askUpdated(ctx context.Context, f *reports.Facts) {
	c, err := a.ownUpdates(ctx)
	if err != nil {
		f.Unasked, f.Undated = err.Error(), err.Error()
		return
	}
	checks, err := c.Checks(ctx)
	if err != nil {
		f.Unasked = askedUpdated(err).Error()
	}
	for _, c := range checks {
		if c.Error != "" {
			f.Silent = append(f.Silent, c.What+": "+c.Error)
		}
	}
	st, err := c.Status(ctx)
	if err != nil {
		f.Undated = askedUpdated(err).Error()
	}
	f.Built = st.Built
}

// ownUpdates returns a client of the updated of the same box as [app.client].
func (a *app) ownUpdates(ctx context.Context) (*updates.Client, error) {
	if a.box == "" {
		return updates.NewClient(filepath.Join(filepath.Dir(a.socket), updates.SocketFile)), nil
	}
	c, err := a.remote(ctx)
	if err != nil {
		return nil, err
	}
	return &updates.Client{Caller: c}, nil
}

// askedUpdated says of an error that it was updated that was asked, where the error does not.
func askedUpdated(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("ask updated: %w", e.Err) // the path says nothing
	}
	return err
}

func (a *app) printExposure(r *reports.Exposure) {
	a.item("", r.Sentence())
	a.item("", "As of "+a.when(r.Made)+".")
	for _, c := range r.Concerns {
		fmt.Fprintln(a.out)
		a.heading(c.Title)
		for _, f := range c.Findings {
			if f.Good {
				a.item("  "+a.paint(green, "ok")+"     ", f.What)
				continue
			}
			a.item("  "+a.paint(red, "to do")+"  ", f.What)
			a.item("         ", f.Next)
		}
		if len(c.Findings) == 0 && c.Empty != "" {
			a.item("  ", c.Empty)
		}
		if c.Unknown != "" {
			a.item("  "+a.paint(yellow, "not known")+"  ", c.Unknown)
		}
	}
}

func (a *app) handbookCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "handbook",
		Short: "Write what somebody needs who has to look after the network",
		Long: `Write what somebody needs who has to look after the network and did not make it: the
zones and devices, the names, who may reach whom, the rules and their reasons, and what
to do when things have gone wrong. It is made of the file in force, and has no secrets.

` + exitHelp,
		Example: "  bulkhead handbook --markdown > handbook.md",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.handbook(cmd.Context(), markdown) },
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write it as Markdown, as the pages do")
	return cmd
}

func (a *app) handbook(ctx context.Context, markdown bool) error {
	s, err := a.standing(ctx)
	if err != nil {
		return err
	}
	m, err := s.box.Matrix(ctx)
	if err != nil {
		return err
	}
	number := 0
	if c := s.status.Confirmed; c != nil {
		number = c.Number
	}
	h := reports.NewHandbook(s.cfg, m, number, s.status.Now)
	switch {
	case a.json:
		return a.printJSON(h)
	case markdown:
		_, err := fmt.Fprint(a.out, h.Markdown())
		return err
	}
	return a.printHandbook(h)
}

func (a *app) printHandbook(h *reports.Handbook) error {
	a.heading("Handbook of " + h.Box)
	a.item("", h.About())
	for _, p := range h.Parts {
		fmt.Fprintln(a.out)
		a.heading(p.Title)
		if p.Intro != "" {
			a.item("", p.Intro)
		}
		if len(p.Rows) == 0 {
			a.item("", p.Empty)
			continue
		}
		t := table{header: p.Head}
		for _, r := range p.Rows {
			row := make([]string, len(r))
			for i, cell := range r {
				row[i] = orDash(cell)
			}
			t.rows = append(t.rows, row)
		}
		if err := a.print(t); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out)
	a.heading("When things have gone wrong")
	for _, s := range h.Recovery {
		a.item("* ", s.When+". "+s.Do)
	}
	return nil
}
