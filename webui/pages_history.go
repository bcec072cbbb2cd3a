//go:build linux

package webui

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
)

// historyRows is how many changes one page lists.
const historyRows = 100

// historyView is the changes that were kept.
type historyView struct {
	Query string
	Rows  []historyRow
	Total int    // that the box has
	Older string // address of the next page; "": there is none
	Last  *outcomeView
}

type historyRow struct {
	Number    int
	Time      when
	Author    string
	Via       string
	Why, Name string
}

func rowOf(v *visit, e *api.Entry) historyRow {
	return historyRow{e.Number, v.when(e.Time), or(e.Author, "somebody"), viaText(e.Via), e.Why, e.Name}
}

// matches reports whether every word of a search is in what is said of a change.
func (r historyRow) matches(words []string) bool {
	text := strings.ToLower(fmt.Sprint(r.Number, " ", r.Time.Text(), " ", r.Author, " ", r.Via, " ", r.Why, " ", r.Name))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func (v *visit) historyPage() error {
	list, err := v.box().History(v.Context())
	if err != nil {
		return err
	}
	q := v.URL.Query()
	view := historyView{Query: strings.TrimSpace(q.Get("q")), Total: len(list)}
	words := strings.Fields(strings.ToLower(view.Query))
	before, err := strconv.Atoi(q.Get("before"))
	for i := range list {
		row := rowOf(v, &list[i])
		if err == nil && row.Number >= before || !row.matches(words) {
			continue
		}
		if len(view.Rows) == historyRows {
			next := url.Values{"before": {strconv.Itoa(view.Rows[historyRows-1].Number)}}
			if view.Query != "" {
				next.Set("q", view.Query)
			}
			view.Older = "/history?" + next.Encode()
			break
		}
		view.Rows = append(view.Rows, row)
	}
	if st := v.look(); st != nil && st.Last != nil && st.Last.End != api.EndConfirmed {
		view.Last = v.outcome(st.Last)
	}
	return v.show("history", view)
}

// entryView is one change that was kept.
type entryView struct {
	historyRow
	Newest    bool
	Next      int // the change after it; 0: there is none
	Previous  int // the change before it; 0: it is the first that the box has
	Sum       string
	Reach     []string // as it was told when the change was made
	MoreReach int
	Diff      few[diffLine]
	MayGo     bool // back to it
}

func (e entryView) title() string { return fmt.Sprintf("Change %d", e.Number) }

func (v *visit) entryPage() error {
	e, err := v.entry()
	if err != nil {
		return err
	}
	list, err := v.box().History(v.Context())
	if err != nil {
		return err
	}
	view := entryView{historyRow: rowOf(v, e), Sum: e.Sum, Reach: e.Reach, MoreReach: e.MoreReach}
	for i := range list {
		if list[i].Number != e.Number {
			continue
		}
		if i > 0 {
			view.Next = list[i-1].Number
		}
		if i+1 < len(list) {
			view.Previous = list[i+1].Number
		}
	}
	view.Newest = view.Next == 0
	view.MayGo = !view.Newest && v.may(access.Plan)
	if view.Previous > 0 {
		diff, err := v.box().Diff(v.Context(), view.Previous, e.Number)
		if err != nil {
			return err
		}
		view.Diff = fewOf(diffLines(diff.Text))
	}
	return v.show("change", view)
}

// entry is the change that the path names.
func (v *visit) entry() (*api.Entry, error) {
	n, err := strconv.Atoi(v.PathValue("number"))
	if err != nil {
		return nil, api.Unknown(fmt.Errorf("%.20q is not the number of a change", v.PathValue("number")))
	}
	return v.box().Entry(v.Context(), n)
}

// entryFile is the file of a change of the history.
func (v *visit) entryFile() error {
	e, err := v.entry()
	if err != nil {
		return err
	}
	v.download(fmt.Sprintf("change-%d.yaml", e.Number), "text/plain; charset=utf-8")
	_, _ = v.w.Write(e.Data) // a browser that left needs no file
	return nil
}

// goBack proposes the file of a change of the history once more.
func (v *visit) goBack() error {
	e, err := v.entry()
	if err != nil {
		return err
	}
	return v.propose(proposal{File: bytes.Clone(e.Data), Name: e.Name, Why: fmt.Sprintf("go back to change %d", e.Number)})
}
