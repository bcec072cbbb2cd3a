package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

func (a *app) talksCommand() *cobra.Command {
	var f flowFlags
	var devices, dot bool
	cmd := &cobra.Command{
		Use:   "talks",
		Short: "Show who talks to whom about what",
		Long: `Show who talks to whom about what: as a matrix from zone to zone, or of devices, where
it fits the terminal, and pair by pair below. A cell is how much was said both ways. With
--dot, print a graph for Graphviz: as wide as much was said, dashed where it was refused.

` + exitHelp,
		Example: "  bulkhead talks --since 7d\n  bulkhead talks --devices --dot | dot -Tsvg > talks.svg",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.values(a)
			if err != nil {
				return err
			}
			if dot && a.json {
				return fmt.Errorf("%w: --dot and --json cannot both be standard output", errUsage)
			}
			return a.talks(cmd.Context(), query, devices, dot)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&devices, "devices", false, "tell devices of a zone apart")
	cmd.Flags().BoolVar(&dot, "dot", false, "print a graph for Graphviz")
	return cmd
}

func (a *app) talks(ctx context.Context, query url.Values, devices, dot bool) error {
	var t flows.Talks
	err := a.askFlowd(ctx, "/v1/flows/talks", query, &t)
	return show(ctx, a, t, err, func(t flows.Talks) error {
		pairs := join(t.Talks, devices)
		switch {
		case dot:
			return a.printDot(pairs)
		case len(pairs) == 0:
			_, err := fmt.Fprintln(a.out, "There is no record of that.")
			return err
		}
		if err := a.printTalks(pairs); err != nil {
			return err
		}
		if n := t.Rest.Connections + t.Rest.Refused; n > 0 {
			fmt.Fprintf(a.err, "warning: %d connections and refused packets of less frequent kinds are not shown: --limit\n", n)
		}
		return nil
	})
}

// pair is who talks to whom.
type pair struct{ from, to record.Party }

// said is what is said between two.
type said struct {
	record.Sum
	apps map[string]uint64 // by number of connections, or of refused packets
}

// join puts talks together by their parties.
func join(list []record.TalkSum, devices bool) map[pair]*said {
	pairs := map[pair]*said{}
	for _, t := range list {
		p := pair{t.From, t.To}
		if !devices {
			p.from.Device, p.to.Device = "", ""
		}
		s := pairs[p]
		if s == nil {
			s = &said{apps: map[string]uint64{}}
			pairs[p] = s
		}
		s.Connections += t.Sum.Connections
		s.Refused += t.Sum.Refused
		s.Out.Add(t.Sum.Out)
		s.In.Add(t.Sum.In)
		app := t.App
		if app == "" {
			app = service(t.Proto, t.Port)
		}
		s.apps[app] += t.Sum.Connections + t.Sum.Refused
	}
	return pairs
}

func called(p record.Party) string {
	if p.Device != "" {
		return p.Device
	}
	return orDash(p.Zone)
}

func comparePairs(a, b pair) int {
	return cmp.Or(
		cmp.Compare(a.from.Zone, b.from.Zone), cmp.Compare(a.from.Device, b.from.Device),
		cmp.Compare(a.to.Zone, b.to.Zone), cmp.Compare(a.to.Device, b.to.Device))
}

// maxApps is how many services of a pair are named.
const maxApps = 4

func (s *said) about() string {
	apps := slices.SortedFunc(maps.Keys(s.apps), func(x, y string) int {
		return cmp.Or(cmp.Compare(s.apps[y], s.apps[x]), cmp.Compare(x, y))
	})
	if more := len(apps) - maxApps; more > 0 {
		apps = append(apps[:maxApps], fmt.Sprintf("%d more", more))
	}
	return strings.Join(apps, ", ")
}

// maxColumns is how many parties a matrix has room for.
const maxColumns = 12

// matrix is a row for each party that begins something, and a column for each that is meant.
func (a *app) matrix(pairs map[pair]*said) (table, bool) {
	var from, to []record.Party
	for p := range pairs {
		from, to = append(from, p.from), append(to, p.to)
	}
	compare := func(x, y record.Party) int {
		return cmp.Or(cmp.Compare(x.Zone, y.Zone), cmp.Compare(x.Device, y.Device))
	}
	slices.SortFunc(from, compare)
	slices.SortFunc(to, compare)
	from, to = slices.Compact(from), slices.Compact(to)
	t := table{header: []string{`FROM \ TO`}}
	for _, y := range to {
		t.header = append(t.header, called(y))
	}
	for _, x := range from {
		row := []string{called(x)}
		for _, y := range to {
			row = append(row, a.cell(pairs[pair{x, y}]))
		}
		t.rows = append(t.rows, row)
	}
	return t, len(to) <= maxColumns && (a.width == 0 || total(t.widths()) <= a.width)
}

// cell is what was said between two, in a few characters.
func (a *app) cell(s *said) string {
	var words []string
	if s != nil && s.Connections > 0 {
		both := s.Out
		both.Add(s.In)
		words = append(words, amount(both))
	}
	if s != nil && s.Refused > 0 {
		words = append(words, a.paint(red, fmt.Sprintf("%d refused", s.Refused)))
	}
	return orDash(strings.Join(words, ", "))
}

func (a *app) printTalks(pairs map[pair]*said) error {
	if m, fits := a.matrix(pairs); fits {
		if err := a.print(m); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	t := table{header: []string{"FROM", "TO", "CONNECTIONS", "OUT", "IN", "REFUSED", "ABOUT"}}
	for _, p := range slices.SortedFunc(maps.Keys(pairs), comparePairs) {
		s := pairs[p]
		refused := strconv.FormatUint(s.Refused, 10)
		if s.Refused > 0 {
			refused = a.paint(red, refused)
		}
		t.rows = append(t.rows, []string{called(p.from), called(p.to), strconv.FormatUint(s.Connections, 10), amount(s.Out), amount(s.In), refused, s.about()})
	}
	return a.print(t)
}

// printDot writes the graph. Names in it are those of the configuration, which have no
// characters that Graphviz takes for its own; they are quoted all the same.
func (a *app) printDot(pairs map[pair]*said) error {
	var b strings.Builder
	b.WriteString("digraph talks {\n\trankdir=LR;\n\tnode [shape=box, fontname=\"sans-serif\"];\n\tedge [fontname=\"sans-serif\", fontsize=10];\n")
	parties := map[record.Party]bool{}
	for p := range pairs {
		parties[p.from], parties[p.to] = true, true
	}
	node := func(p record.Party) string { return dotQuote(p.Zone + "/" + p.Device) }
	for _, p := range slices.SortedFunc(maps.Keys(parties), func(x, y record.Party) int {
		return cmp.Or(cmp.Compare(x.Zone, y.Zone), cmp.Compare(x.Device, y.Device))
	}) {
		fmt.Fprintf(&b, "\t%s [label=%s];\n", node(p), dotQuote(called(p)))
	}
	for _, p := range slices.SortedFunc(maps.Keys(pairs), comparePairs) {
		s := pairs[p]
		label := s.about()
		if s.Connections > 0 {
			// A tenth of the width for each doubling.
			width := 1 + math.Log2(1+float64(s.Out.Bytes+s.In.Bytes))/10
			fmt.Fprintf(&b, "\t%s -> %s [label=%s, penwidth=%.1f];\n", node(p.from), node(p.to), dotQuote(label), width)
		}
		if s.Refused > 0 {
			fmt.Fprintf(&b, "\t%s -> %s [label=%s, style=dashed, color=red];\n", node(p.from), node(p.to), dotQuote(fmt.Sprintf("%d refused", s.Refused)))
		}
	}
	b.WriteString("}\n")
	_, err := a.out.Write([]byte(b.String()))
	return err
}

// dotQuote quotes a string as Graphviz reads it: with a backslash before quotes and
// backslashes only.
func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ").Replace(s) + `"`
}
