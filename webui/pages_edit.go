//go:build linux

package webui

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/textdiff"
)

// editView is the whole text of the file, as it was typed.
type editView struct {
	Name    string
	Text    string
	Why     string
	Sum     string // digest of the file that the text was made of
	Number  int    // change that had it; 0: there was no file
	Line    int    // that was asked for
	Checked bool   // it was found good
	Failed  []string
	Hint    string
	Lockout string
	Problems
	Changed *editChange // set: the file is another one by now
}

// Problems are what is wrong with a text, and the lines that it is about.
type Problems struct {
	List  []problem
	Lines []textLine
}

// editChange is what somebody else did to the file.
type editChange struct {
	Number      int
	Author, Why string
	Diff        few[diffLine]
}

// textLine is a line of the text, and what is wrong with it.
type textLine struct {
	Number   int // 0: lines are left out here
	Text     string
	Problems []problem
}

// Focus is the line that the editor begins with; 0: the first.
func (e editView) Focus() int {
	for _, p := range e.List {
		if !p.Warning && p.Line > 0 {
			return p.Line
		}
	}
	return e.Line
}

// around is how many lines are shown around one with a problem.
const around = 3

// numbered shows the lines that are within some of given ones.
func numbered(text string, problems []problem, asked int) (list []textLine) {
	at := map[int][]problem{}
	near := map[int]bool{}
	mark := func(line, by int) {
		for n := line - by; n <= line+by; n++ {
			near[n] = true
		}
	}
	for _, p := range problems {
		if p.Line > 0 {
			at[p.Line] = append(at[p.Line], p)
			mark(p.Line, around)
		}
	}
	if asked > 0 {
		mark(asked, 2*around)
	}
	n, gap := 0, false
	for line := range strings.Lines(text) {
		n++
		if !near[n] {
			gap = true
			continue
		}
		if gap {
			list = append(list, textLine{})
		}
		gap = false
		list = append(list, textLine{Number: n, Text: strings.TrimRight(line, "\r\n"), Problems: at[n]})
	}
	if gap && len(list) > 0 {
		list = append(list, textLine{})
	}
	return list
}

func sumOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func editOf(e *api.Entry) editView {
	return editView{Name: e.Name, Text: string(e.Data), Sum: sumOf(e.Data), Number: e.Number}
}

func (v *visit) editPage() error {
	e, err := v.newest()
	if err != nil {
		return err
	}
	view := editOf(e)
	if line, err := strconv.Atoi(v.URL.Query().Get("line")); err == nil && line > 0 {
		view.Line = line
		view.Lines = numbered(view.Text, nil, line)
	}
	return v.show("edit", view)
}

// edited checks a text, shows what it would do, or, where somebody else has changed the
// file meanwhile, what that was.
func (v *visit) edited() error {
	form, err := v.form(maxChangeForm)
	if err != nil {
		return err
	}
	text, err := fileIn(form)
	if err != nil {
		return err
	}
	e, err := v.newest()
	if err != nil {
		return err
	}
	if bytes.Contains(e.Data, []byte("\r\n")) { // which forms do not tell from others
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	view := editOf(e)
	view.Text, view.Why = string(text), strings.TrimSpace(form.Get("why"))
	base := form.Get("base") // of a plan that was refused
	if was := form.Get("sum"); was != "" && was != view.Sum || base != "" && base != strconv.Itoa(e.Number) {
		// The form that is shown is about the file as it is now: sent again, it replaces it.
		view.Changed = &editChange{e.Number, or(e.Author, "somebody"), e.Why, fewOf(diffLines(textdiff.Unified("theirs", "yours", string(e.Data), string(text))))}
		return v.showAs(http.StatusConflict, "edit", view)
	}
	plan, err := v.box().Plan(v.Context(), api.Proposal{File: api.File{Name: view.Name, Data: text}})
	if r, ok := errors.AsType[*api.Refused](err); ok {
		view.refuse(r)
		return v.showAs(http.StatusUnprocessableEntity, "edit", view)
	}
	if err != nil {
		return err
	}
	if form.Get("then") == "plan" {
		return v.propose(proposal{File: text, Why: view.Why})
	}
	view.Checked = true
	view.tell(plan.Warnings)
	return v.show("edit", view)
}

func (e *editView) refuse(r *api.Refused) {
	refused := refusedOf(r, []byte(e.Text))
	e.Hint, e.Failed, e.Lockout = refused.Hint, refused.Failed, refused.Lockout
	e.tell(r.Problems)
}

func (e *editView) tell(problems diag.List) {
	e.List = problemsIn(problems, []byte(e.Text))
	e.Lines = numbered(e.Text, e.List, 0)
}
