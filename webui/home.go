//go:build linux

package webui

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"bulkhead/netcfg/api"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/file"
)

//go:embed templates
var templates embed.FS

//go:embed static
var static embed.FS

var pages = template.Must(template.New("").ParseFS(templates, "templates/*.html"))

// homePage is what everybody in an admin zone may know of the box.
type homePage struct {
	Name, Version string
	Mode          string // "running", "closed", or that it cannot be known
	Claimed       bool   // or nobody knows
	Address       string // that the browser used
	Fingerprint   string
}

// home shows what this box is.
func (s *server) home(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	host, _ := s.host(r)
	p := homePage{
		Name: s.conf.Load().Name, Version: s.version, Mode: "not known: netcfgd does not answer",
		Address: s.authority(host), Fingerprint: s.identity.fingerprint().String(),
	}
	var o auth.Owner
	p.Claimed = s.access.Call(ctx, auth.Asker{}, "GET", "/v1/owner", nil, &o) != nil || o.Claimed
	if m, err := s.box.Mode(ctx); err == nil {
		p.Mode = describe(m)
	}
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, "home.html", p); err != nil {
		s.log.Error("write a page", "err", err)
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = page.WriteTo(w) // a browser that left needs no page
}

func describe(m api.Mode) string {
	switch m {
	case api.Running:
		return "running: the confirmed configuration is in force"
	case api.Setup:
		return "setup: there is no configuration yet, and nothing is forwarded"
	}
	return "closed: nothing is forwarded, only admin zones reach the box"
}

// versionIn returns the version of the image, or "" outside of one.
func versionIn(path string) string {
	data, err := file.Read(path, 64<<10)
	if err != nil {
		return ""
	}
	var image struct {
		Version string `json:"version"`
	}
	_ = json.Unmarshal(data, &image) // no version then: it is only shown
	return image.Version
}
