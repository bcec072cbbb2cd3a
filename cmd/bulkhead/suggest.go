package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/suggest"
	flows "bulkhead/services/flow/api"
)

func (a *app) suggestCommand() *cobra.Command {
	since := "7d"
	cmd := &cobra.Command{
		Use:   "suggest",
		Short: "Propose allows for what was refused or observed, and list rules without use",
		Long: `Propose allows for connections that were refused because no rule allows them, and for
those that passed only because their zone has mode: observe; what opens least comes
first, each with what was seen. And list rules that decided nothing for 30 or 90 days.

Nothing is changed: put what you want into the file, and say why. A file with an empty
why is not taken.

` + exitHelp,
		Example: "  bulkhead suggest --since 14d",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.parseSince(since)
			if err != nil {
				return fmt.Errorf("%w: --since %q: %w", errUsage, since, err)
			}
			return a.suggest(cmd.Context(), t)
		},
	}
	cmd.Flags().StringVar(&since, "since", since, "what was seen since a `time`, a date, or so long ago: 2h, 3d")
	return cmd
}

// suggestions is what is printed as JSON.
type suggestions struct {
	suggest.Result
	Unused []suggest.Unused `json:"unused"`
	Oldest time.Time        `json:"oldest,omitzero"` // of the records: of the time before nothing is known
}

func (a *app) suggest(ctx context.Context, since time.Time) error {
	cfg, err := a.confirmedConfig(ctx)
	if err != nil {
		return err
	}
	var needs flows.Needs
	query := url.Values{"since": {since.UTC().Format(time.RFC3339)}}
	if err := a.askFlowd(ctx, "/v1/flows/needs", query, &needs); err != nil {
		return err
	}
	seen := make([]suggest.Seen, len(needs.Needs))
	for i, n := range needs.Needs {
		seen[i] = suggest.Seen{
			From: suggest.Party(n.From), To: suggest.Party(n.To), Proto: n.Proto, Port: n.Port, Rule: n.Rule, Reason: n.Reason,
			Count: n.Count, First: n.First, Last: n.Last, Name: n.Name,
		}
	}
	now := a.now()
	oldest := needs.Oldest
	if oldest.IsZero() {
		oldest = now
	}
	out := suggestions{suggest.Allows(cfg, seen), suggest.Rules(cfg, flows.LastUses(needs.Used, now), oldest, now, 30, 90), needs.Oldest}
	for i := range out.Unused {
		out.Unused[i].Last = time.Time{} // which is known to a month only
	}
	if a.json {
		return a.printJSON(out)
	}
	a.location = cfg.System.Location
	a.printSuggestions(&out, needs.More)
	return nil
}

// confirmedConfig returns the configuration that was confirmed last.
func (a *app) confirmedConfig(ctx context.Context) (*model.Config, error) {
	c, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	history, err := c.History(ctx)
	if err != nil {
		return nil, err
	}
	if len(history) == 0 {
		return nil, api.Unknown(fmt.Errorf("there is no configuration yet"))
	}
	entry, err := c.Entry(ctx, history[0].Number)
	if err != nil {
		return nil, err
	}
	cfg, problems := conf.Parse(entry.Name, entry.Data, a.now())
	if cfg == nil {
		return nil, fmt.Errorf("the configuration in force is not understood by this program: %w", problems.Err())
	}
	return cfg, nil
}

func (a *app) printSuggestions(s *suggestions, more int) {
	if len(s.Proposals) == 0 {
		fmt.Fprintln(a.out, "Nothing is proposed.")
	} else {
		fmt.Fprintln(a.out, "allow:")
		for _, p := range s.Proposals {
			fmt.Fprint(a.out, p.YAML(a.location))
		}
	}
	if len(s.LeftOut) > 0 {
		fmt.Fprintln(a.out, "\nNot proposed:")
		for _, l := range s.LeftOut {
			fmt.Fprintf(a.out, "  %d×, %s: %s\n", l.Count, plural(l.Kinds, "kind"), l.Why)
		}
	}
	if len(s.Unused) > 0 {
		fmt.Fprintln(a.out, "\nWithout use:")
		t := table{header: []string{"RULE", "KIND", "DAYS", "WHY", "WHERE"}}
		for _, u := range s.Unused {
			t.rows = append(t.rows, []string{u.Name, u.Kind, fmt.Sprintf("%d", u.Days), u.Why, u.Pos.String()})
		}
		_ = a.print(t) // as all of it
	}
	if !s.Oldest.IsZero() {
		fmt.Fprintf(a.out, "\nRecords go back to %s; nothing is said of the time before.\n", a.when(s.Oldest))
	}
	if more > 0 {
		fmt.Fprintf(a.err, "warning: %d records of further kinds were left out: look at less time with --since\n", more)
	}
}
