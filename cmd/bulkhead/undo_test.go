package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
)

// wiser is a box that has learnt to find secrets since its last change but one.
type wiser struct{ *backend }

func (wiser) Undo(context.Context, api.Undo) (*api.Trial, error) {
	return nil, &api.Refused{
		Problems: diag.List{{Pos: diag.Pos{File: "home.yaml", Line: 12, Col: 3}, Msg: "looks like a WireGuard key", Hint: "remove it"}},
		Hint:     `write it with "bulkhead history show 11 > FILE"`,
	}
}

func TestUndoThatIsRefusedSaysWhatToDo(t *testing.T) {
	socket := serve(t, wiser{&backend{status: running}})
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	for _, json := range []bool{false, true} {
		var out, errs bytes.Buffer
		a := &app{out: &out, err: &errs}
		args := []string{"undo", "--socket", socket, "--author", "kim"}
		if json {
			args = append(args, "--json")
		}
		if code := a.run(t.Context(), args); code != exitProblem {
			t.Errorf("exit code %d", code)
		}
		const want = "home.yaml:12:3: looks like a WireGuard key\n\thint: remove it\nhint: write it with \"bulkhead history show 11 > FILE\"\n"
		if errs.String() != want {
			t.Errorf("got %q, want %q", &errs, want)
		}
		if json != strings.Contains(out.String(), `"hint": "write it`) {
			t.Errorf("--json %t: got %s", json, &out)
		}
	}
}
