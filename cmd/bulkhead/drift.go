package main

import (
	"fmt"

	"bulkhead/netcfg/api"
)

func (a *app) printDrift(list []api.Drift) error {
	if len(list) == 0 {
		fmt.Fprintln(a.out, "Nobody has changed anything behind Bulkhead's back.")
		return nil
	}
	full := table{header: []string{"NOTICED", "PUT RIGHT", "TIMES", "WHAT WAS FOUND", "BY"}}
	narrow := table{header: []string{"NOTICED", "PUT RIGHT", "TIMES"}}
	for _, d := range list {
		repaired := a.paint(red, "not yet")
		if !d.Repaired.IsZero() {
			repaired = a.when(d.Repaired)
		}
		row := []string{a.when(d.Last), repaired, fmt.Sprint(d.Times)}
		full.rows = append(full.rows, append(row[:len(row):len(row)], d.What, orDash(d.By)))
		narrow.rows = append(narrow.rows, row)
		narrow.below = append(narrow.below, below(d.What, prefixed("by", d.By)))
	}
	return a.print(full, narrow)
}
