//go:build linux

package webui

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	Base    string // or the change that had it; "": Sum says it
	By      string // who typed the text
	Theirs  string // who typed it, if that is somebody else than who sends it; ""
	Number  int    // change that had it; 0: there was no file
	Line    int    // that was asked for
	Checked bool   // it was found good
	Failed  []string
	Hint    string
	Lockout string
	Problems
	Changed *editChange // set: the file is another one by now

	// Of a text that is large.
	Part     *editPart // set: the editor has that of it
	Packed   string    // the whole text; "": it is that of the change Number
	Sections []section
	Query    string
	Found    few[textLine]
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

// FocusHere is the line of what the editor has that it begins with; 0: the first.
func (e editView) FocusHere() int {
	if n := e.Focus(); e.Part == nil || n == 0 {
		return n
	} else if n >= e.Part.From && n <= e.Part.To() {
		return n - e.Part.From + 1
	}
	return 0
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

func (v *visit) editOf(e *api.Entry) editView {
	return editView{Name: e.Name, Text: string(e.Data), Sum: sumOf(e.Data), By: v.caller.Name, Number: e.Number}
}

func (v *visit) editPage() error {
	e, err := v.newest()
	if err != nil {
		return err
	}
	view, query := v.editOf(e), v.URL.Query()
	if line, err := strconv.Atoi(query.Get("line")); err == nil && line > 0 {
		view.Line = line
		view.Lines = numbered(view.Text, nil, line)
	}
	view.find(strings.TrimSpace(query.Get("q")))
	return v.showEdit(http.StatusOK, view, 1)
}

// showEdit shows the editor; of a large text that was shown from a line on, that part.
func (v *visit) showEdit(status int, view editView, from int) error {
	view.cut(from)
	return v.showAs(status, "edit", view)
}

// edited checks a text, shows what it would do, or, where somebody else has changed the
// file meanwhile, what that was.
func (v *visit) edited() error {
	form, err := v.changeForm()
	if err != nil {
		return err
	}
	e, err := v.newest()
	if err != nil {
		return err
	}
	text, from, err := v.textIn(form, e)
	if err != nil {
		return err
	}
	if bytes.Contains(e.Data, []byte("\r\n")) { // which forms do not tell from others
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	view := v.editOf(e)
	view.Text, view.Why = string(text), strings.TrimSpace(form.Get("why"))
	if by := form.Get("by"); by != "" && by != v.caller.Name { // the session of who typed it was over
		view.Theirs, view.Number, view.Sum, view.Base = by, 0, form.Get("sum"), form.Get("base")
		return v.showEdit(http.StatusConflict, view, from)
	}
	base := form.Get("base") // of a plan that was refused
	if was := form.Get("sum"); was != "" && was != view.Sum || base != "" && base != strconv.Itoa(e.Number) {
		// The form that is shown is about the file as it is now: sent again, it replaces it.
		view.Changed = &editChange{e.Number, or(e.Author, "somebody"), e.Why, fewOf(diffLines(textdiff.Unified("theirs", "yours", string(e.Data), string(text))))}
		return v.showEdit(http.StatusConflict, view, from)
	}
	if then := form.Get("then"); from > 0 && (then == "earlier" || then == "later") {
		return v.showEdit(http.StatusOK, view, moved(form, text, from))
	}
	plan, err := v.box().Plan(v.Context(), api.Proposal{File: api.File{Name: view.Name, Data: text}})
	if r, ok := errors.AsType[*api.Refused](err); ok {
		view.refuse(r)
		return v.showEdit(http.StatusUnprocessableEntity, view, from)
	}
	if err != nil {
		return err
	}
	if form.Get("then") == "plan" {
		return v.propose(proposal{File: text, Why: view.Why})
	}
	view.Checked = true
	view.tell(plan.Warnings)
	return v.showEdit(http.StatusOK, view, from)
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

// carriers are the pages that are sent a whole file, which may be an hour's typing.
var carriers = []string{"POST /edit", "POST /change/plan", "POST /change/try"}

// keptView gives back a text that nothing could be done with.
type keptView struct {
	refusal
	Edit editView
}

// maxReturned is how many texts are given back at once to people who are not known: a form
// is read for them that is larger than any other.
const maxReturned = 2

// giveBack answers a form that carried a file, and was not served, with that file: the box
// keeps none, and the browser may not either. It reports whether there was one to give back.
func (v *visit) giveBack(no refusal) bool {
	if !slices.Contains(carriers, v.page.ask) {
		return false
	}
	if v.PostForm == nil {
		from := addrOf(v.RemoteAddr)
		if !v.s.returned.enter(from) {
			return false
		}
		defer v.s.returned.leave(from)
		if _, err := v.form(maxChangeForm); err != nil {
			return false
		}
	}
	get := v.PostForm.Get
	edit := editView{Name: or(get("name"), "The file"), Why: get("why"), Sum: get("sum"), Base: get("base"), By: or(get("by"), v.caller.Name)}
	if v.PostForm.Has("from") { // a part, as it was sent: what it is of may be nobody's business
		if edit.Part = partIn(v.PostForm); edit.Part == nil {
			return false
		}
		edit.Packed = get("data")
		edit.Number, _ = strconv.Atoi(get("of")) // or none
	} else {
		text, err := fileIn(v.PostForm)
		if err != nil {
			return false
		}
		edit.Text = string(text)
		edit.cut(1)
	}
	_ = v.showAs(no.Status, "kept", keptView{no, edit})
	return true
}
