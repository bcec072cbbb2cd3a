//go:build linux

package webui

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	auth "bulkhead/services/auth/api"
	diag "bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
)

// reachView asks whether a host answers, or over which hops it is reached.
type reachView struct {
	Tabs   []navItem
	Target string // as it was typed
	Trace  bool
	Asked  bool
	Said   string // what came of it, in words
	Echoes []diag.Echo
	Hops   []hopRow
	Error  string
}

// hopRow is who is so many hops away.
type hopRow struct {
	Number int
	From   string // several, if answers took several ways; "": nobody says
	Times  string
	What   string
}

func (v *visit) reachPage() error {
	q := v.URL.Query()
	view := reachView{Tabs: v.tabs(), Target: strings.TrimSpace(q.Get("target")), Trace: q.Get("how") == "traceroute", Asked: q.Has("target")}
	if !view.Asked {
		return v.show("reach", view)
	}
	var err error
	if view.Trace {
		var hops []diag.Hop
		err = v.updates().Traceroute(v.Context(), diag.Traceroute{Target: view.Target}, func(h diag.Hop) { hops = append(hops, h) })
		view.Hops, view.Said = hopRows(hops), waySaid(hops)
	} else {
		err = v.updates().Ping(v.Context(), diag.Ping{Target: view.Target}, func(e diag.Echo) { view.Echoes = append(view.Echoes, e) })
		view.Said = echoesSaid(view.Echoes)
	}
	if err != nil {
		status, why := diagnoseError(err)
		view.Error, view.Said = why, ""
		return v.showAs(status, "reach", view)
	}
	return v.show("reach", view)
}

// diagnoseError is the HTTP status and the words for what updated answers.
func diagnoseError(err error) (int, string) {
	err = updateError(err)
	status, _ := statusOfPage(err)
	if no, ok := errors.AsType[*auth.Refusal](err); ok {
		status = no.Status
	}
	return status, err.Error()
}

// echoesSaid sums up a ping.
func echoesSaid(echoes []diag.Echo) string {
	var sum, least, most float64
	n := 0
	for _, e := range echoes {
		if e.Trouble != "" {
			continue
		}
		if n++; n == 1 {
			least, most = e.Milliseconds, e.Milliseconds
		}
		sum, least, most = sum+e.Milliseconds, min(least, e.Milliseconds), max(most, e.Milliseconds)
	}
	switch {
	case len(echoes) == 0:
		return ""
	case n == 0:
		return fmt.Sprintf("%s does not answer: %s.", echoes[0].Target, echoes[len(echoes)-1].Trouble)
	case n < len(echoes):
		return fmt.Sprintf("%s answers %d times of %d: after %s ms on average, %s at most.", echoes[0].Target, n, len(echoes), millis(sum/float64(n)), millis(most))
	}
	return fmt.Sprintf("%s answers each time: after %s ms on average, %s at least, %s at most.", echoes[0].Target, millis(sum/float64(n)), millis(least), millis(most))
}

// millis writes milliseconds with as many digits as mean something.
func millis(ms float64) string {
	if ms < 10 {
		return strconv.FormatFloat(ms, 'f', 2, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// waySaid sums up a traceroute.
func waySaid(hops []diag.Hop) string {
	if len(hops) == 0 || len(hops[0].Echoes) == 0 {
		return ""
	}
	last := hops[len(hops)-1]
	target := hops[0].Echoes[0].Target
	if !last.Reached {
		return fmt.Sprintf("%s was not reached over %s.", target, counting(uint64(len(hops)), "hop"))
	}
	for _, e := range last.Echoes {
		if e.From.IsValid() && e.Trouble == "" {
			return fmt.Sprintf("%s is reached over %s.", target, counting(uint64(last.Number), "hop"))
		}
	}
	return fmt.Sprintf("%s is not reached: it ends at hop %d.", target, last.Number)
}

func hopRows(hops []diag.Hop) (rows []hopRow) {
	for _, h := range hops {
		row := hopRow{Number: h.Number, What: "no answer"}
		var from []netip.Addr
		var times []string
		for _, e := range h.Echoes {
			if !e.From.IsValid() {
				if e.Trouble != "no answer" && len(from) == 0 {
					row.What = e.Trouble
				}
				continue
			}
			if !slices.Contains(from, e.From) {
				from = append(from, e.From)
				row.From = strings.TrimPrefix(row.From+", "+e.From.String(), ", ")
			}
			times = append(times, millis(e.Milliseconds))
			switch {
			case e.Trouble == "":
				row.What = "the target"
			case h.Reached:
				row.What = e.Trouble
			default:
				row.What = "on the way"
			}
		}
		row.Times = strings.Join(times, ", ")
		rows = append(rows, row)
	}
	return rows
}

// captureView has the packets of a zone taken.
type captureView struct {
	Tabs    []navItem
	Zones   []string
	Zone    string // as it was typed
	Filter  string
	Packets string
	Seconds string
	Bounds  struct{ Packets, Seconds, Megabytes int }
	Error   string
}

func (v *visit) captureView(q url.Values) (captureView, error) {
	view := captureView{
		Tabs: v.tabs(), Zone: q.Get("zone"), Filter: strings.TrimSpace(q.Get("filter")),
		Packets: or(q.Get("packets"), strconv.Itoa(diag.DefaultPackets)), Seconds: or(q.Get("seconds"), strconv.Itoa(diag.DefaultSeconds)),
	}
	view.Bounds.Packets, view.Bounds.Seconds, view.Bounds.Megabytes = diag.MaxPackets, diag.MaxSeconds, diag.DefaultBytes>>20
	zones, err := v.box().Zones(v.Context())
	for _, z := range zones {
		view.Zones = append(view.Zones, z.Name)
	}
	view.Zones = append(view.Zones, model.Internet)
	return view, err
}

func (v *visit) capturePage() error {
	view, err := v.captureView(v.URL.Query())
	if err != nil {
		return err
	}
	return v.show("capture", view)
}

// capture sends a file of packets to the browser as they come.
func (v *visit) capture() error {
	form, err := v.form(maxForm)
	if err != nil {
		return err
	}
	view, err := v.captureView(form)
	if err != nil {
		return err
	}
	packets, err1 := strconv.Atoi(view.Packets)
	seconds, err2 := strconv.Atoi(view.Seconds)
	if err1 != nil || err2 != nil {
		view.Error = "packets and seconds are numbers"
		return v.showAs(http.StatusUnprocessableEntity, "capture", view)
	}
	file, err := v.updates().Capture(v.Context(), diag.Capture{Zone: view.Zone, Filter: view.Filter, Packets: packets, Seconds: seconds})
	if err != nil {
		status, why := diagnoseError(err)
		view.Error = why
		return v.showAs(status, "capture", view)
	}
	defer file.Close()
	v.w.Header().Set("Content-Type", pcap.MediaType)
	v.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s.pcap"`, view.Zone, v.when(time.Now()).Format("20060102-150405")))
	conn := http.NewResponseController(v.w)
	_ = conn.SetReadDeadline(time.Time{}) // a quiet answer is no client that has left
	for buf := make([]byte, 32<<10); ; {
		n, err := file.Read(buf)
		if _, werr := v.w.Write(buf[:n]); werr != nil || conn.Flush() != nil {
			return nil // the browser has left
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that what is cut does not pass for whole
		}
	}
}
