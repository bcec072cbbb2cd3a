//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/images/lab"
)

// memory measures what the daemons hold when nothing happens: in a lab that has just
// served all its clients, after a while.
func memory(ctx context.Context, w *lab.World, o Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, w, lab.Options{File: o.File, Bin: o.Bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	const quiet = 10 * time.Second
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
		return ctx.Err()
	}
	var names []string
	for name := range l.Daemons {
		names = append(names, name)
	}
	slices.Sort(names)
	rows := [][]string{{"", "PSS", "RSS"}}
	var pss, rss int64
	for _, name := range names {
		p, r, err := memoryOf(l.Daemons[name].PID())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, []string{name, mb(p), mb(r), ""})
		pss, rss = pss+p, rss+r
	}
	rows = append(rows, []string{"all", mb(pss), mb(rss), target(pss <= 100_000, "at most 100 MB")})
	table(o.W, fmt.Sprintf("Memory of the daemons, %s after the last lease", quiet), rows)
	return nil
}

func mb(kb int64) string { return fmt.Sprintf("%.1f MB", float64(kb)*1024/1e6) }

// memoryOf returns a process's share of memory and all that it has mapped, in kB.
func memoryOf(pid int) (pss, rss int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "Pss:":
			pss, err = strconv.ParseInt(f[1], 10, 64)
		case f[0] == "Rss:":
			rss, err = strconv.ParseInt(f[1], 10, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return pss, rss, nil
}
