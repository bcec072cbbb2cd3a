//go:build linux

package webui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"

	auth "bulkhead/services/auth/api"
)

// usesOf has the box ask authd through a witness, and returns how often a session was used.
func (b *box) usesOf() *atomic.Int64 {
	b.t.Helper()
	uses, real := new(atomic.Int64), b.o.Authd
	b.o.Authd = filepath.Join(b.o.Base, "witness.sock")
	to := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: "authd"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", real)
		}},
	}
	b.answerAt(b.o.Authd, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			b.t.Error(err)
		}
		var in auth.Check
		if r.URL.Path == "/v1/check" && json.Unmarshal(data, &in) == nil && in.Use {
			uses.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(data))
		to.ServeHTTP(w, r)
	}))
	return uses
}

// A page that lies open keeps no session: what it asks for by itself is no use of it.
func TestOpenPageKeepsNoSession(t *testing.T) {
	b := newSampleBox(t)
	uses := b.usesOf()
	b.start(conf1)
	w := b.owner()
	w.tries("new\n")
	used := func(path string) int64 {
		t.Helper()
		before := uses.Load()
		if v := w.get(path); v.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d\n%s", path, v.StatusCode, v.body)
		}
		return uses.Load() - before
	}
	for _, path := range []string{"/pending", "/flows/live?zone=iot", "/system/logs/dnsd?q=%22%3C"} {
		if n := used(path); n != 1 {
			t.Errorf("%s uses the session %d times", path, n)
		}
		// What it leads to by itself, by a browser with or without scripts.
		again := regexp.MustCompile(`(?:http-equiv="refresh" content="[0-9]+; url=|data-again="|data-live=")([^"]+)"`).FindAllStringSubmatch(w.get(path).body, -1)
		if len(again) == 0 {
			t.Errorf("%s does not ask again", path)
		}
		for _, a := range again {
			if n := used(html.UnescapeString(a[1])); n != 0 {
				t.Errorf("%s asks for %s, and uses the session", path, a[1])
			}
		}
	}
	// Somebody who loads such an address is there, where the browser says so.
	w.header.Set("Sec-Fetch-User", "?1")
	if n := used("/pending?itself=1"); n != 1 {
		t.Errorf("somebody uses the session %d times", n)
	}
}
