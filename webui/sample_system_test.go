//go:build linux

package webui_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/api"
	diag "bulkhead/services/diag/api"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// sampleImage and sampleBill are what the sample's image says of itself.
const (
	sampleImage = `{"version": "2026.11.20-3f9c2ab", "built": "2026-11-20T08:12:00Z", "arch": "amd64", "git": "3f9c2ab41d", "kernel": "6.12.57"}`
	sampleBill  = `{"sbom_hash": "77ab", "sbom": {
	"Programs": [
		{"Path": "/user/netcfgd", "Package": "bulkhead/cmd/netcfgd", "Go": "go1.26.1", "Modules": [
			{"Path": "github.com/google/nftables", "Version": "v0.3.0", "Sum": "h1:x"}, {"Path": "golang.org/x/sys", "Version": "v0.39.0", "Sum": "h1:y"}]},
		{"Path": "/user/webuid", "Package": "bulkhead/cmd/webuid", "Go": "go1.26.1", "Modules": [
			{"Path": "<b>evil</b>", "Version": "v1", "Sum": "h1:z"}, {"Path": "golang.org/x/sys", "Version": "v0.39.0", "Sum": "h1:y"}]}],
	"Kernel": {"Version": "6.12.57", "Source": "linux-6.12.57.tar.xz", "Compiler": "gcc 12.2.0"},
	"Debian": [{"Name": "e2fsprogs", "Version": "1.47.0-2"}]}}`
)

// sampleSystem writes what is on the disk of the sample.
func (b *box) sampleSystem() {
	b.t.Helper()
	for path, text := range map[string]string{b.o.Image: sampleImage, b.o.Bill: sampleBill} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (sample) Secrets(context.Context) (*api.Secrets, error) {
	ago := func(days int) time.Time { return time.Now().Add(-time.Duration(days)*24*time.Hour - time.Minute) }
	return &api.Secrets{
		Secrets: []api.Secret{
			{Name: "history-push", Set: ago(30), By: "alex", Uses: []string{"system.history.push.key"}},
			{Name: "mail", Set: ago(700), Rotated: ago(401), By: "alex", Old: true, Uses: []string{"alerts[0].password"}},
			{Name: "pppoe", Missing: true, Uses: []string{"internet.pppoe.password"}},
			{Name: "spare", Set: ago(2), By: "kim"},
		},
		Recipients: []api.Recipient{{ID: "1", Key: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Name: "alex’s safe", Added: ago(30), By: "alex"}},
	}, nil
}

// Backup is one that there is no room for all in, to whose keys "age1big" is added.
func (sample) Backup(_ context.Context, in api.NewBackup) (*api.Backup, error) {
	b := &api.Backup{Box: "gw", Time: time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC), Data: []byte("age-encryption.org/v1"), To: []string{"alex’s safe"}}
	for _, key := range in.Recipients {
		switch key {
		case "age1big":
			b.LeftOut = []string{"changes 1 to 4 of the history"}
		default:
			return nil, api.BadSecret(errors.New("that is no public key of age or SSH"))
		}
	}
	return b, nil
}

// machine is a made-up updated, which keeps what it is sent in memory.
type machine struct {
	mu     sync.Mutex
	status updates.Status
	parts  map[string][]byte
	left   []string // how it was told to go down
}

func newMachine() *machine {
	built := time.Date(2026, 11, 20, 8, 12, 0, 0, time.UTC)
	return &machine{parts: map[string][]byte{}, status: updates.Status{
		Arch: "amd64", Slot: "a", Version: "2026.11.20-3f9c2ab", Built: built, Kernel: "6.12.57",
		Other: updates.Other{Version: "2026.10.02-91c05de", State: "good"},
		Last:  &updates.Outcome{Outcome: updates.Undone, Why: "DNS in zone iot does not answer <i>", Version: "2026.11.24-77aa01b", Author: "alex", Time: built.AddDate(0, 0, 4)},
	}}
}

// told is how the machine was told to go down.
func (m *machine) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.left)
}

func (m *machine) staging() *updates.Staging {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.Staging
}

// lines is an answer of several values.
type lines []any

// serve answers as updated does.
func (m *machine) serve(mux *http.ServeMux) {
	handle := func(pattern string, f func(r *http.Request) (any, int, string)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			m.mu.Lock()
			defer m.mu.Unlock()
			v, status, why := f(r)
			if why != "" {
				v = map[string]string{"error": why}
			}
			w.WriteHeader(status)
			if l, ok := v.(lines); ok {
				for _, v := range l {
					_ = json.NewEncoder(w).Encode(v)
				}
				return
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	handle("GET /v1/update", func(*http.Request) (any, int, string) { return m.status, 200, "" })
	handle("GET /v1/logs/{name}", func(r *http.Request) (any, int, string) {
		return updates.Log{Lines: []string{
			`time=2026-11-27T17:00:02.114Z level=INFO svc=` + r.PathValue("name") + ` msg=started`,
			`time=2026-11-27T17:00:02.310Z level=INFO svc=dnsd msg="listening" zone=iot address=192.168.40.1:53`,
			`time=2026-11-27T17:12:44.007Z level=WARN svc=dnsd msg="a resolver does not answer" resolver=9.9.9.9:853 for=2s`,
			`time=2026-11-27T17:31:09.950Z level=ERROR svc=dnsd msg="query" name="<script>alert(1)</script>.example"`,
			`goroutine 1 [running]:`,
		}}, 200, ""
	})
	handle("GET /v1/lookup", func(r *http.Request) (any, int, string) {
		q := r.URL.Query()
		if q.Get("name") == "nas..home" {
			return nil, 422, "nas..home is no name"
		}
		out := updates.Lookup{Question: q.Get("name") + ". " + q.Get("type"), Code: "NOERROR"}
		for _, data := range []string{"192.168.30.5", `"<img src=x>"`} {
			out.Answers = append(out.Answers, updates.LookupAnswer{Name: q.Get("name") + ".", Type: q.Get("type"), TTL: 60, Data: data})
		}
		return out, 200, ""
	})
	handle("POST /v1/ping", func(r *http.Request) (any, int, string) {
		var in diag.Ping
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return nil, 400, err.Error()
		}
		tv := netip.MustParseAddr("192.168.40.5")
		switch in.Target {
		case "tv":
			return diag.Echo{Number: 1, Target: tv, From: tv, Milliseconds: 0.412}, 200, ""
		case "<script>":
			return nil, 422, "no question for DNS: <script> is no name"
		}
		return diag.Echo{Number: 1, Target: netip.MustParseAddr("198.51.100.9"), Trouble: "no answer"}, 200, ""
	})
	handle("POST /v1/traceroute", func(*http.Request) (any, int, string) {
		target, near := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("203.0.113.1")
		return lines{
			diag.Hop{Number: 1, Echoes: []diag.Echo{{Number: 1, Target: target, From: near, Milliseconds: 1.25, Trouble: "time to live exceeded"}, {Number: 2, Target: target, From: near, Milliseconds: 1.5, Trouble: "time to live exceeded"}, {Number: 3, Target: target, Trouble: "no answer"}}},
			diag.Hop{Number: 2, Echoes: []diag.Echo{{Number: 1, Target: target, Trouble: "no answer"}, {Number: 2, Target: target, Trouble: "no answer"}, {Number: 3, Target: target, Trouble: "no answer"}}},
			diag.Hop{Number: 3, Reached: true, Echoes: []diag.Echo{{Number: 1, Target: target, From: target, Milliseconds: 12.7}, {Number: 2, Target: target, From: target, Milliseconds: 13.1}, {Number: 3, Target: target, From: target, Milliseconds: 12.9}}},
		}, 200, ""
	})
	mux.HandleFunc("POST /v1/capture", func(w http.ResponseWriter, r *http.Request) {
		var in diag.Capture
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Filter == "prot" {
			w.WriteHeader(422)
			fmt.Fprint(w, `{"error":"filter, character 1: \"prot\" is none of host, net"}`)
			return
		}
		fmt.Fprintf(w, "%s %s %d %d %s", in.Zone, in.Filter, in.Packets, in.Seconds, r.Header.Get("Bulkhead-Client"))
	})
	handle("POST /v1/update", func(r *http.Request) (any, int, string) {
		var in updates.Begin
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return nil, 400, err.Error()
		}
		image, err := manifest.Parse(in.Manifest)
		if err != nil {
			return nil, 400, err.Error()
		}
		if image.Version == "1" && !in.AllowDowngrade {
			return nil, 409, "the image is older than one that ran here"
		}
		m.status.Staging = &updates.Staging{Version: image.Version, Author: "alex"}
		return updates.None{}, 200, ""
	})
	handle("PUT /v1/update/{part}", func(r *http.Request) (any, int, string) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, 400, err.Error()
		}
		m.parts[r.PathValue("part")] = data
		m.status.Staging.Ready = m.parts["root"] != nil
		return updates.None{}, 200, ""
	})
	handle("DELETE /v1/update", func(*http.Request) (any, int, string) {
		m.status.Staging = nil
		return updates.None{}, 200, ""
	})
	for _, way := range []string{"update/commit", "restart", "power-off"} {
		handle("POST /v1/"+way, func(*http.Request) (any, int, string) {
			if m.status.Trial {
				return nil, 409, "a version is on trial here"
			}
			m.left = append(m.left, way)
			return updates.None{}, 200, ""
		})
	}
}
