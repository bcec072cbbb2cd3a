package store_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

// Anyone can open the files: a reader in another language, by people who have not seen
// ours, finds in the columns what README.md says is in them.
func TestAnotherReaderFindsTheSameRecords(t *testing.T) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skipf("%s is not installed: .ci/deps test", tool)
		}
	}
	dir, reader := t.TempDir(), t.TempDir()
	s, err := store.OpenOn(store.Directory(dir), store.Options{Log: quiet, Reserve: -1, Now: func() time.Time { return day1 }}, 2000)
	if err != nil {
		t.Fatal(err)
	}
	all := newHome(5, day1.Add(20*time.Hour), 20_000).batch(4000) // two days
	if err := s.Append(all); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*/*.parquet")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}

	if err := os.CopyFS(reader, os.DirFS("testdata/reader")); err != nil {
		t.Fatal(err)
	}
	run(t, reader, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	var got, want []string
	for line := range bytes.Lines(run(t, reader, "node", append([]string{"read.mjs"}, files...)...)) {
		var columns map[string]any
		if err := json.Unmarshal(line, &columns); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, fmt.Sprint(columns))
	}
	for _, r := range all {
		want = append(want, fmt.Sprint(documented(&r)))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%.3000s", diff)
	}
}

// documented is a record in the columns that README.md lists.
func documented(r *record.Record) map[string]any {
	big := func(n int64) string { return strconv.FormatInt(n, 10) }
	port := func(p uint16) float64 { return float64(p) }
	text := func(s fmt.Stringer, valid bool) string {
		if !valid {
			return ""
		}
		return s.String()
	}
	nat := port(r.NATSrc.Port())
	if !r.NATSrc.IsValid() || r.NATSrc.Port() == r.Src.Port {
		nat = -1
	}
	return map[string]any{
		"start": r.Start.Format("2006-01-02T15:04:05.000Z07:00"), "duration_ms": big(r.End.Sub(r.Start).Milliseconds()), "age_ms": big(r.Start.Sub(r.Began).Milliseconds()),
		"src_zone": r.Src.Zone, "src_device": r.Src.Device, "src_mac": text(r.Src.MAC, !r.Src.MAC.IsZero()), "src_addr": text(r.Src.Addr, r.Src.Addr.IsValid()), "src_port": port(r.Src.Port),
		"dst_zone": r.Dst.Zone, "dst_device": r.Dst.Device, "dst_mac": text(r.Dst.MAC, !r.Dst.MAC.IsZero()), "dst_addr": text(r.Dst.Addr, r.Dst.Addr.IsValid()), "dst_port": port(r.Dst.Port),
		"nat_src_addr": text(r.NATSrc.Addr(), r.NATSrc.IsValid()), "nat_src_port": nat,
		"nat_dst_addr": text(r.NATDst.Addr(), r.NATDst.IsValid()), "nat_dst_port": port(r.NATDst.Port()),
		"proto":       float64(r.Proto),
		"out_packets": big(int64(r.Out.Packets)), "out_bytes": big(int64(r.Out.Bytes)), "in_packets": big(int64(r.In.Packets)), "in_bytes": big(int64(r.In.Bytes)),
		"verdict": r.Verdict.String(), "rule": r.Rule, "reason": r.Reason, "ended": r.Ended.String(), "name": r.Name, "app": r.App,
	}
}

func run(t *testing.T, dir, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, &stderr)
	}
	return out
}
