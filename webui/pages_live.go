//go:build linux

package webui

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/flow/record"
)

// livePages show flows as they are recorded.
var livePages = []page{
	{"GET /flows/live", access.Read, "Live flows", false, (*visit).livePage},
	{"GET /flows/live/events", access.Read, "", false, (*visit).liveEvents},
}

// Bounds of streams. A stream ends with its visit, after two minutes: the browser asks for
// the next one, and whether it may is looked at again.
const (
	maxFollowers   = 8
	maxOwnFollowed = 3                // of a user, in whatever sessions, or of a token
	eventTime      = 10 * time.Second // that a browser may take for one event
	liveRows       = 20               // that are there already
)

const tooManyFollow = "too many pages and programs follow already: close one"

// following lets programs follow flows within the bounds of pages.
func (s *server) following(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := callerOf(r).Holder()
		if !s.watchers.enter(who) {
			fail(w, http.StatusTooManyRequests, tooManyFollow)
			return
		}
		defer s.watchers.leave(who)
		h.ServeHTTP(w, r)
	})
}

// liveView is the flows that there are, and where more come from.
type liveView struct {
	flowsView
	Stream string
}

func (liveView) refresh() int { return 10 }

// liveFilters are those that make sense for what is yet to come.
func (v *visit) liveFilters() flowFilters {
	f := readFlowFilters(v.URL.Query())
	f.Since, f.Until = "", ""
	return f
}

func (v *visit) livePage() error {
	f := v.liveFilters()
	view := liveView{flowsView: flowsView{flowFilters: f, Filtered: len(f.Values()) > 0, Views: f.tabs("live", "")}, Stream: asksItself(&url.URL{Path: "/flows/live/events", RawQuery: f.Values().Encode()})}
	var err error
	if view.Zones, err = v.parties(); err != nil {
		return err
	}
	ask, err := v.flowQuery(f)
	if err != nil {
		view.Stream, view.Error = "", upperFirst(err.Error())+"."
		return v.showAs(http.StatusUnprocessableEntity, "live", view)
	}
	ask.Set("limit", strconv.Itoa(liveRows))
	list, err := askFlowd[[]record.Record](v, "/v1/flows", ask)
	if err != nil {
		return err
	}
	rules := v.ruleLists()
	for i := range list {
		view.Rows = append(view.Rows, v.flowLine(&list[i], rules))
	}
	return v.show("live", view)
}

// liveEvents sends rows as flows are recorded.
func (v *visit) liveEvents() error {
	ask, err := v.flowQuery(v.liveFilters())
	if err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	who := v.caller.Holder()
	if !v.s.watchers.enter(who) {
		fail(v.w, http.StatusTooManyRequests, tooManyFollow)
		return nil
	}
	defer v.s.watchers.leave(who)
	resp, err := v.openFlowd("/v1/flows/live", ask)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fail(v.w, http.StatusServiceUnavailable, fmt.Sprintf("flowd answers %s", resp.Status))
		return nil
	}
	v.w.Header().Set("Content-Type", "text/event-stream")
	conn := http.NewResponseController(v.w)
	_ = conn.SetReadDeadline(time.Time{}) // a quiet stream is no client that has left
	rules := v.ruleLists()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		_ = conn.SetWriteDeadline(time.Now().Add(eventTime)) // there is one without it, only later
		if _, err := v.w.Write(v.event(lines.Bytes(), rules)); err != nil || conn.Flush() != nil {
			return nil // the browser has left
		}
	}
	return nil
}

// event makes one of a line of flowd's: a row, how many were skipped, or a sign of life.
func (v *visit) event(line []byte, rules ruleLists) []byte {
	var said struct {
		record.Record
		Skipped uint64 `json:"skipped"`
	}
	if len(line) == 0 || json.Unmarshal(line, &said) != nil {
		return []byte(": alive\n\n")
	}
	if said.Skipped > 0 {
		return fmt.Appendf(nil, "event: skipped\ndata: %d\n\n", said.Skipped)
	}
	var row bytes.Buffer
	if err := sheets["live"].ExecuteTemplate(&row, "flow", v.flowLine(&said.Record, rules)); err != nil {
		v.s.log.Error("write a row", "err", err)
		return []byte(": \n\n")
	}
	return fmt.Appendf(nil, "data: %s\n\n", bytes.Join(bytes.Fields(row.Bytes()), []byte(" ")))
}
