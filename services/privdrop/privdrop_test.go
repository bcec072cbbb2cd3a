//go:build linux

package privdrop_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/privdrop"
)

const id = 7199

// life is what a process knows about itself, told to the test by its second life.
type life struct {
	PID    int
	Args   []string
	Status map[string]string // of /proc/self/status
	Groups []int
	Gain   string // the error of trying to become root again
}

func TestMain(m *testing.M) {
	switch os.Getenv("LIFE") {
	case "caps":
		live(privdrop.Exec(id, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE))
	case "bare":
		live(privdrop.Exec(id))
	case "root":
		live(privdrop.Limit(nil, unix.CAP_NET_ADMIN))
	case "bare root":
		live(privdrop.Limit([]int{id}))
	}
	os.Exit(m.Run())
}

func live(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l := life{PID: os.Getpid(), Args: os.Args[1:], Status: map[string]string{}}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs":
			l.Status[key] = strings.Join(strings.Fields(value), " ")
		}
	}
	l.Groups, _ = os.Getgroups()
	l.Gain = fmt.Sprint(unix.Setresuid(0, 0, 0))
	json.NewEncoder(os.Stdout).Encode(l)
	os.Exit(0)
}

// needRoot skips, or fails, as a test in a namespace would.
func needRoot(t *testing.T) {
	t.Helper()
	nstest.New(t)
}

func TestSecondLifeHasNothingButTheNamedCapabilities(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name      string
		uid       int
		inherited string // what a program that it started would have, were it not root
		caps      string
		groups    []int
		gain      string
	}{
		{"caps", id, "0000000000002400", "0000000000002400", []int{}, "operation not permitted"}, // bits 10 and 13
		{"bare", id, "0000000000000000", "0000000000000000", []int{}, "operation not permitted"},
		{"root", 0, "0000000000000000", "0000000000001000", []int{}, "<nil>"}, // bit 12; becoming what one is is no gain
		{"bare root", 0, "0000000000000000", "0000000000000000", []int{id}, "<nil>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-run", "/tmp/x y")
			cmd.Env = append(os.Environ(), "LIFE="+tt.name)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got life
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			ids := strings.TrimSpace(strings.Repeat(fmt.Sprint(tt.uid, " "), 4))
			want := life{
				PID:  cmd.Process.Pid,
				Args: []string{"-run", "/tmp/x y"},
				Status: map[string]string{
					"Uid": ids, "Gid": ids,
					"CapInh": tt.inherited, "CapPrm": tt.caps, "CapEff": tt.caps, "CapBnd": tt.caps, "CapAmb": tt.inherited,
					"NoNewPrivs": "1",
				},
				Groups: tt.groups,
				Gain:   tt.gain,
			}
			if got.Groups == nil {
				got.Groups = []int{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("second life differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDirIsGivenAway(t *testing.T) {
	needRoot(t)
	base := filepath.Join(t.TempDir(), "run", "bulkhead")
	for range 2 { // again over what is there
		path, err := privdrop.Dir(base, "dhcpd", id, id+1)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode)
		if want := "7199:7200 42750"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDirFollowsNoLinks(t *testing.T) {
	base, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(base, "dhcpd")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dhcpd", "file", "", ".", "..", "a/b", "../x"} {
		if path, err := privdrop.Dir(base, name, id, id); err == nil {
			t.Errorf("%q: got %s, want an error", name, path)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(elsewhere, &st); err != nil {
		t.Fatal(err)
	}
	if int(st.Uid) != os.Geteuid() {
		t.Errorf("%s was given to user %d", elsewhere, st.Uid)
	}
}
