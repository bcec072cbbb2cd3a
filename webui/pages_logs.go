//go:build linux

package webui

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	auth "bulkhead/services/auth/api"
	update "bulkhead/services/update/api"
)

// logsView is the last that a daemon has logged.
type logsView struct {
	Tabs    []navItem
	Daemons []navItem
	Daemon  string
	Query   string
	Paused  bool
	Turn    string // address that pauses it, or goes on
	Away    string // why there are no lines
	Lines   []logLine
}

func (l logsView) title() string { return "Log of " + l.Daemon }

func (l logsView) refresh() int {
	if l.Paused || l.Away != "" {
		return 0
	}
	return 5
}

func (logsView) reload() bool { return true }

// logLine is one line, taken apart if it is of the form that our daemons log in. What it
// says may come from anybody.
type logLine struct {
	Time  when
	Level string // "": another form
	Text  string
}

var logForm = regexp.MustCompile(`^time=(\S+) level=([A-Z]+(?:[+-]\d+)?) (?:svc=\S+ )?(.*)$`)

func (v *visit) logLine(s string) logLine {
	if m := logForm.FindStringSubmatch(s); m != nil {
		if t, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
			return logLine{v.when(t), m[2], m[3]}
		}
	}
	return logLine{Text: s}
}

// Bad and Warn say how serious a line is.
func (l logLine) Bad() bool  { return strings.HasPrefix(l.Level, "ERROR") }
func (l logLine) Warn() bool { return strings.HasPrefix(l.Level, "WARN") }

// Clock is the time of the line for people, who look for seconds here.
func (l logLine) Clock() string { return l.Time.Format("2006-01-02 15:04:05 MST") }

func (v *visit) logsPage() error { return v.showLog(update.Daemons[0]) }

func (v *visit) logPage() error {
	name := v.PathValue("daemon")
	if !slices.Contains(update.Daemons, name) {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "there is no such daemon"}
	}
	return v.showLog(name)
}

func (v *visit) showLog(daemon string) error {
	q := v.URL.Query()
	view := logsView{Tabs: v.tabs(), Daemon: daemon, Query: strings.TrimSpace(q.Get("q")), Paused: q.Get("pause") != ""}
	kept := url.Values{}
	if view.Query != "" {
		kept.Set("q", view.Query)
	}
	for _, d := range update.Daemons {
		view.Daemons = append(view.Daemons, navItem{withQuery("/system/logs/"+d, kept), d, d == daemon})
	}
	if !view.Paused {
		kept.Set("pause", "1")
	}
	view.Turn = withQuery("/system/logs/"+daemon, kept)
	log, err := v.updates().Log(v.Context(), daemon)
	if err != nil {
		view.Away = updateError(err).Error()
		return v.show("logs", view)
	}
	for _, s := range log.Lines {
		if view.Query == "" || strings.Contains(strings.ToLower(s), strings.ToLower(view.Query)) {
			view.Lines = append(view.Lines, v.logLine(s))
		}
	}
	slices.Reverse(view.Lines) // the latest first: there nothing has to be scrolled
	return v.show("logs", view)
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}
