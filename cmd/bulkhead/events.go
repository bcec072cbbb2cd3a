package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/services/flow/record"
)

func (a *app) eventsCommand() *cobra.Command {
	var kind, device, zone, since string
	var limit int
	var follow bool
	var kinds []string
	for _, k := range record.Kinds {
		kinds = append(kinds, string(k))
	}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List what there was to tell: new devices, scans, refusals that matter",
		Long: `List what there was to tell, the latest first: devices that are new, DHCP servers that
are not the box, who was refused at a critical device, who tries one door after the
other, and devices that do what they never did. Strangers' names are in quotes.

` + exitHelp,
		Example: "  bulkhead events --since 2d\n  bulkhead events --kind port-scan --json",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kind != "" && !slices.Contains(kinds, kind) {
				return fmt.Errorf("%w: --kind %q is none of %s", errUsage, kind, strings.Join(kinds, ", "))
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for key, value := range map[string]string{"kind": kind, "device": device, "zone": zone} {
				if value != "" {
					query.Set(key, value)
				}
			}
			if since != "" {
				t, err := a.parseSince(since)
				if err != nil {
					return fmt.Errorf("%w: --since %q: %w", errUsage, since, err)
				}
				query.Set("since", t.UTC().Format(time.RFC3339))
			}
			if follow {
				return a.followEvents(cmd.Context(), query)
			}
			return a.events(cmd.Context(), query)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "only those of a `kind`: "+strings.Join(kinds, ", "))
	cmd.Flags().StringVar(&device, "device", "", "only those about a `device`, by its name in the configuration or its MAC")
	cmd.Flags().StringVar(&zone, "zone", "", "only those about a `zone`")
	cmd.Flags().StringVar(&since, "since", "", "only those since a `time`, a date, or so long ago: 2h, 3d")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with those that come, the latest last, until interrupted")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so `many`")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp)) // fails without such a flag
	return cmd
}

func (a *app) events(ctx context.Context, query url.Values) error {
	var list []record.Event
	err := a.askFlowd(ctx, "/v1/events", query, &list)
	return show(ctx, a, list, err, func(list []record.Event) error {
		if len(list) == 0 {
			_, err := fmt.Fprintln(a.out, "There was nothing to tell.")
			return err
		}
		t := table{header: []string{"TIME", "KIND", "WHAT"}}
		for _, e := range list {
			t.rows = append(t.rows, []string{a.when(e.Time), string(e.Kind), e.Text})
		}
		return a.print(t)
	})
}

// followPause is how often a box is asked whether there is something new.
const followPause = 2 * time.Second

// followEvents prints the events there are, the latest last, and then those that come: a
// line each, of JSON for programs.
func (a *app) followEvents(ctx context.Context, query url.Values) error {
	a.location = a.boxTime(ctx, []record.Event{{}})
	var last time.Time
	printed := make(map[string]bool) // keys of the events at that time
	for {
		var list []record.Event
		if err := a.askFlowd(ctx, "/v1/events", query, &list); err != nil {
			if ctx.Err() != nil {
				return nil // who follows ends it so
			}
			return err
		}
		for _, e := range slices.Backward(list) {
			if e.Time.Before(last) || e.Time.Equal(last) && printed[e.Key] {
				continue
			}
			if e.Time.After(last) {
				last = e.Time
				clear(printed)
			}
			printed[e.Key] = true
			if err := a.printEvent(&e); err != nil {
				return err
			}
		}
		query.Del("limit") // of those that come, none is too many
		if !last.IsZero() {
			query.Set("since", last.UTC().Format(time.RFC3339))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}

// printEvent prints one event in one line.
func (a *app) printEvent(e *record.Event) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(e)
	}
	_, err := fmt.Fprintf(a.out, "%s  %-13s  %s\n", a.when(e.Time), e.Kind, e.Text)
	return err
}

var errSince = errors.New("a time like 2026-11-27T12:00:00Z, a date, or how long ago, like 2h or 3d, is meant")

// parseSince reads a time, a date here, or how long ago something was.
func (a *app) parseSince(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, a.location); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return a.now().AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return a.now().Add(-d), nil
	}
	return time.Time{}, errSince
}
