//go:build linux

// Package throughput measures what goes through a box: bare forwarding, Bulkhead's
// rules, and the rules with a flowtable. All of it happens within one guest with the
// image's kernel, sender and receiver included: what is comparable are the ways, not
// the figures with those of real hardware.
package throughput

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"bulkhead/images/kernel"
	"bulkhead/images/kernel/trial"
)

// Figures are what was measured of one way through the box, a value per round.
type Figures struct {
	Name    string    // "bare", "rules" or "flowtable"
	Packets []float64 // UDP of 64 bytes, per second
	Mbit    []float64 // of one TCP connection, per second, in segments of 1,500 bytes
}

// Options says what to measure with.
type Options struct {
	Arch   kernel.Arch
	Kernel kernel.Kernel
	Config string // path of configs/zero-trust.yaml
	Rounds int    // of about two seconds each
}

// Measure starts the machine and returns what it measured, in the order of the ways
// above.
func Measure(ctx context.Context, o Options) ([]Figures, error) {
	t := trial.Trial{Arch: o.Arch, Kernel: o.Kernel, Config: o.Config, Args: []string{"measure", fmt.Sprint(o.Rounds)}}
	lines, err := t.Run(ctx)
	if err != nil {
		return nil, err
	}
	var ways []Figures
	var problems []error
	for _, line := range lines {
		if figures, ok := strings.CutPrefix(line, "measured "); ok {
			if ways, err = add(ways, figures); err != nil {
				problems = append(problems, err)
			}
		}
		if what, failed := strings.CutPrefix(line, "FAIL "); failed {
			problems = append(problems, errors.New(what))
		}
	}
	return ways, errors.Join(problems...)
}

// add adds a line of the guest: name, packets per second, Mbit/s.
func add(ways []Figures, line string) ([]Figures, error) {
	var name string
	var pps, mbit float64
	if _, err := fmt.Sscan(line, &name, &pps, &mbit); err != nil {
		return ways, fmt.Errorf("read figures %q: %w", line, err)
	}
	i := slices.IndexFunc(ways, func(f Figures) bool { return f.Name == name })
	if i < 0 {
		ways, i = append(ways, Figures{Name: name}), len(ways)
	}
	ways[i].Packets, ways[i].Mbit = append(ways[i].Packets, pps), append(ways[i].Mbit, mbit)
	return ways, nil
}

var names = map[string]string{
	"bare": "bare forwarding", "rules": "bulkhead", "flowtable": "bulkhead, flowtable",
}

// Print prints the medians as a table.
func Print(w io.Writer, o Options, ways []Figures) error {
	fmt.Fprintf(w, "\nThroughput within a guest of QEMU (Linux from %s), medians of %d rounds\n", o.Kernel.Source, o.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tUDP 64 B\t\tTCP\t\t")
	for _, f := range ways {
		fmt.Fprintf(t, "%s\t%.1f kpps\t%.2f\t%.0f Mbit/s\t%.2f\t\n", names[f.Name],
			median(f.Packets)/1e3, ratio(f.Packets, ways[0].Packets), median(f.Mbit), ratio(f.Mbit, ways[0].Mbit))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, `  From a VLAN of the trunk to the uplink, the address translated but when bare;
  sender and receiver share the processor with the box. TCP without segmentation
  offload. The other figures are medians of the ratio to bare forwarding in the same
  round, which other load on the machine disturbs less.
`)
	return err
}

// ratio is the median of what the rounds of a way are to those of another.
func ratio(values, to []float64) float64 {
	ratios := make([]float64, min(len(values), len(to)))
	for i := range ratios {
		ratios[i] = values[i] / to[i]
	}
	return median(ratios)
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}
