package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// flowFlags are the filters of flows, as they are written.
type flowFlags struct {
	device, from, to, zone, rule, reason, verdict, port, name, since, until string
	limit                                                                   int
}

func (f *flowFlags) add(cmd *cobra.Command) {
	for _, s := range []struct {
		to          *string
		name, usage string
	}{
		{&f.device, "device", "only those of a `device` on either side: its name, MAC or address, or a network"},
		{&f.from, "from", "only those that a `device`, address or zone began"},
		{&f.to, "to", "only those that went to a `device`, address or zone"},
		{&f.zone, "zone", "only those of a `zone` on either side"},
		{&f.rule, "rule", "only those that a `rule` decided on"},
		{&f.reason, "reason", "only what was refused for a `reason` by no rule, such as policy"},
		{&f.verdict, "verdict", "only those that were `allowed` or refused"},
		{&f.port, "port", "only those to a `port`, such as 443 or udp/53"},
		{&f.name, "name", "only those to a DNS `name`, or one below it"},
		{&f.since, "since", "only those since a `time`, a date, or so long ago: 2h, 3d"},
		{&f.until, "until", "only those until a `time`"},
	} {
		cmd.Flags().StringVar(s.to, s.name, "", s.usage)
	}
	cmd.Flags().IntVar(&f.limit, "limit", 0, "at most so `many`")
}

// values are the filters as flowd wants them.
func (f *flowFlags) values(a *app) (url.Values, error) {
	v := url.Values{}
	for name, value := range map[string]string{
		"device": f.device, "from": f.from, "to": f.to, "zone": f.zone, "rule": f.rule, "reason": f.reason, "verdict": f.verdict, "name": strings.ToLower(strings.TrimSuffix(f.name, ".")),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if value == "" {
			continue
		}
		t, err := a.parseSince(value)
		if err != nil {
			return nil, fmt.Errorf("%w: --%s %q: %w", errUsage, name, value, err)
		}
		v.Set(name, t.UTC().Format(time.RFC3339))
	}
	if f.port != "" {
		proto, port, ok := strings.Cut(f.port, "/")
		if !ok {
			proto, port = "", f.port
		}
		number, known := map[string]string{"": "", "tcp": "6", "udp": "17", "icmp": "1", "sctp": "132"}[proto]
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || !known {
			return nil, fmt.Errorf("%w: --port %q: a port such as 443 or udp/53 is meant", errUsage, f.port)
		}
		v.Set("port", port)
		if number != "" {
			v.Set("proto", number)
		}
	}
	if f.limit != 0 {
		v.Set("limit", strconv.Itoa(f.limit))
	}
	return v, nil
}

func (a *app) flowsCommand() *cobra.Command {
	var f flowFlags
	var follow bool
	var top, by string
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List who spoke with whom, and what was refused; or who did most",
		Long: `List connections that have ended and what was refused, the latest first. Long
connections are there an hour at a time, refusals a minute at a time. With --top, list
what has most bytes, connections or refused packets instead.

` + exitHelp,
		Example: `  bulkhead flows --device tv --since 1d
  bulkhead flows --verdict refused --to nas
  bulkhead flows --top bytes --by destination --since 30d`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.values(a)
			switch {
			case err != nil:
				return err
			case follow && (top != "" || f.since != "" || f.until != "" || f.limit != 0):
				return fmt.Errorf("%w: --follow goes with none of --top, --since, --until and --limit", errUsage)
			case by != "device" && top == "":
				return fmt.Errorf("%w: --by goes with --top", errUsage)
			case top != "":
				query.Set("by", top)
				query.Set("per", by)
				return a.topFlows(cmd.Context(), query)
			case follow:
				return a.followFlows(cmd.Context(), query)
			}
			var list []record.Record
			err = a.askFlowd(cmd.Context(), "/v1/flows", query, &list)
			return show(cmd.Context(), a, list, err, a.printFlows)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with those that come, until interrupted")
	cmd.Flags().StringVar(&top, "top", "", "what has most `bytes`, connections or refused")
	cmd.Flags().StringVar(&by, "by", "device", "with --top: per `device`, destination or rule")
	_ = cmd.RegisterFlagCompletionFunc("top", cobra.FixedCompletions([]string{"bytes", "connections", "refused"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"device", "destination", "rule"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) printFlows(list []record.Record) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.out, "There is no record of that.")
		return err
	}
	full := table{header: []string{"TIME", "FROM", "TO", "SERVICE", "OUT", "IN", "DECIDED BY"}}
	narrow := table{header: []string{"TIME", "FROM", "TO", "SERVICE"}}
	for i := range list {
		r := &list[i]
		full.rows = append(full.rows, []string{a.moment(r.Start), party(r.Src), target(r), about(r), amount(r.Out), amount(r.In), a.decided(r)})
		narrow.rows = append(narrow.rows, []string{a.moment(r.Start), party(r.Src), target(r), about(r)})
		narrow.below = append(narrow.below, below(amount(r.Out)+" out, "+amount(r.In)+" in", a.decided(r)))
	}
	return a.print(full, narrow)
}

// moment is when something was, to the second: there are many in a minute.
func (a *app) moment(t time.Time) string { return t.In(a.location).Format("01-02 15:04:05") }

// party is how people call a side.
func party(s record.Side) string {
	who := s.Who()
	if s.Device == "" && s.Addr.IsValid() && s.Zone != model.Internet && s.Zone != "" {
		who += " (" + s.Zone + ")"
	}
	return orDash(who)
}

// target is where a connection went, by the name that was asked for. flowd takes no names
// but of letters, digits and dots.
func target(r *record.Record) string {
	if r.Name != "" {
		return r.Name
	}
	return party(r.Dst)
}

func about(r *record.Record) string {
	if r.App != "" {
		return r.App
	}
	return service(r.Proto, r.Dst.Port)
}

func service(proto uint8, port uint16) string {
	if proto == 0 {
		return "-"
	}
	return model.ServiceOf(proto, port).String()
}

func amount(c record.Count) string {
	if c == (record.Count{}) {
		return "-"
	}
	return inBytes(c.Bytes)
}

// inBytes writes an amount in three digits.
func inBytes(n uint64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, prefix := float64(n), -1
	for v >= unit-0.5 && prefix < 4 { // what would be rounded to a thousand as well
		v, prefix = v/unit, prefix+1
	}
	return fmt.Sprintf("%.3g %cB", v, "kMGTP"[prefix])
}

func (a *app) decided(r *record.Record) string {
	if r.Verdict == record.Refused {
		return a.paint(red, fmt.Sprintf("%d refused: %s", r.Out.Packets, orDash(r.Rule+r.Reason)))
	}
	return r.Rule
}

func (a *app) topFlows(ctx context.Context, query url.Values) error {
	var list []record.Sum
	err := a.askFlowd(ctx, "/v1/flows/top", query, &list)
	return show(ctx, a, list, err, func(list []record.Sum) error {
		if len(list) == 0 {
			_, err := fmt.Fprintln(a.out, "There is no record of that.")
			return err
		}
		t := table{header: []string{strings.ToUpper(query.Get("per")), "ZONE", "OUT", "IN", "CONNECTIONS", "REFUSED"}}
		for _, s := range list {
			t.rows = append(t.rows, []string{orDash(s.Key), orDash(s.Zone), amount(s.Out), amount(s.In), strconv.FormatUint(s.Connections, 10), strconv.FormatUint(s.Refused, 10)})
		}
		return a.print(t)
	})
}

// followFlows prints records as they are made, a line each. Their own times are no guide
// to that: the kernel looks for connections that are over only now and then, and tells when
// each was.
func (a *app) followFlows(ctx context.Context, query url.Values) error {
	a.location = a.boxTime(ctx, []record.Record{{}})
	one := func(line []byte) error {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read the answer of flowd: %w", err)
		}
		return a.printFlow(&r)
	}
	return a.followFlowd(ctx, "/v1/flows/live", query, one, func(n uint64) {
		fmt.Fprintf(a.err, "warning: %d skipped: more came than could be shown\n", n)
	})
}

func (a *app) printFlow(r *record.Record) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(r)
	}
	_, err := fmt.Fprintf(a.out, "%s  %s → %s  %s  %s out, %s in  %s\n", a.moment(r.End), party(r.Src), target(r), about(r), amount(r.Out), amount(r.In), a.decided(r))
	return err
}
