package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/api"
)

// Nobody stops the network by a word: it takes a yes, or the flag.
func TestBoxGoesDownOnceSomebodyAgrees(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	u := newUpdated(t)
	for _, c := range []struct {
		args, typed string
		code        int
		says        string
		down        []string
	}{
		{"reboot", "no\n", exitSystem, "nothing was done", nil},
		{"poweroff", "\n", exitSystem, "nothing was done", nil},
		{"reboot", "yes\n", 0, "To restart the box now, type yes: the box restarts", []string{"restart"}},
		{"poweroff", "yes\n", 0, "the box switches itself off", []string{"power-off"}},
		{"poweroff --yes", "", 0, "the box switches itself off", []string{"power-off"}},
	} {
		var out bytes.Buffer
		u.down = nil
		a := &app{out: &out, err: &out, in: strings.NewReader(c.typed), asks: true, now: func() time.Time { return today }, location: time.UTC}
		code := a.run(t.Context(), append(strings.Fields(c.args), "--socket", filepath.Join(u.dir, api.SocketFile)))
		if code != c.code || !strings.Contains(out.String(), c.says) || !slices.Equal(u.down, c.down) {
			t.Errorf("%s, typed %q: exit %d, down %q: %s", c.args, c.typed, code, u.down, out.String())
		}
	}
}
