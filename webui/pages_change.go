//go:build linux

package webui

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
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

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/textdiff"
	"bulkhead/services/auth/access"
	update "bulkhead/services/update/api"
)

// changePages are about what a change would do, the one that is being tried, and those that were.
var changePages = []page{
	{"POST /change/plan", access.Plan, "Plan", false, (*visit).planPage},
	{"POST /change/try", access.Apply, "Plan", false, (*visit).try},
	{"GET /pending", access.Read, "Pending change", false, (*visit).pendingPage},
	{"POST /pending/keep", access.Apply, "", false, (*visit).keep},
	{"POST /pending/undo", access.Apply, "", false, (*visit).undo},
	{"GET /history", access.Read, "History", true, (*visit).historyPage},
	{"GET /history/{number}", access.Read, "Change", false, (*visit).entryPage},
	{"GET /history/{number}/file", access.Read, "", false, (*visit).entryFile},
	{"GET /history/{number}/again", access.Plan, "Plan", false, (*visit).goBack},
}

// proposal is a change that a page proposes: the whole new file.
type proposal struct {
	File []byte
	Why  string // for the history; whoever tries it may say it otherwise
	Name string // of the file; "": as before

	err    string // why it was not tried, although it was to be
	status int    // of the page then
}

// noName is what a file is called that has no name yet.
const noName = "bulkhead.yaml"

// propose shows what a change would do, and the button that tries it. The page carries
// the file: the box keeps nothing of what nobody tries.
func (v *visit) propose(p proposal) error {
	before, err := v.newest()
	if err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = before.Name
	}
	view := planView{Base: before.Number, By: v.caller.Name, Name: p.Name, Data: pack(p.File), Why: p.Why, Error: p.err, MayTry: v.may(access.Apply)}
	view.Diff = fewOf(diffLines(textdiff.Unified(before.Name, p.Name, string(before.Data), string(p.File))))
	status := p.status
	if status == 0 {
		status = http.StatusOK
	}
	plan, err := v.box().Plan(v.Context(), api.Proposal{File: api.File{Name: p.Name, Data: p.File}, Ruleset: true})
	refused, isRefused := errors.AsType[*api.Refused](err)
	switch {
	case isRefused:
		view.Refused = refusedOf(refused, p.File)
		return v.showAs(http.StatusUnprocessableEntity, "plan", view)
	case err != nil:
		return err
	}
	view.tell(plan, p.File)
	view.Doors = v.doors(plan.Path)
	view.Minutes = minutesFor(plan)
	if st := v.look(); st != nil && st.Pending != nil {
		view.Busy = v.pending(st.Pending)
	}
	return v.showAs(status, "plan", view)
}

// minutesFor is how long somebody has to look whether all is well: what is usual first. It
// is more if they have a way to go.
func minutesFor(p *api.Plan) []int {
	if p.Path != nil && p.Path.Moves {
		return []int{5, maxMinutes}
	}
	return []int{2, 5, maxMinutes}
}

// maxMinutes is how long a change may wait that was made here.
const maxMinutes = 10

// newest is the change that was confirmed last, with its file. It is empty where there is none.
func (v *visit) newest() (*api.Entry, error) {
	none := &api.Entry{Name: noName}
	list, err := v.box().History(v.Context())
	if err != nil || len(list) == 0 {
		return none, err
	}
	e, err := v.box().Entry(v.Context(), list[0].Number)
	if err == nil && e.Name == "" {
		e.Name = noName
	}
	return e, err
}

// planView is what a change would do.
type planView struct {
	Base    int    // the change that is in force
	By      string // whose file it is
	Name    string
	Data    string // the file, packed
	Why     string
	Minutes []int // to choose from
	Error   string
	MayTry  bool
	Refused *refusedView // set: it cannot be used
	Busy    *pendingView // set: another one is being tried

	Warnings        []problem
	Missing         []string
	Becomes, Ceases int // how much becomes possible, and how much no longer is
	Reach           few[reachLine]
	Interrupts      few[impact.Interrupt]
	Cut             *impact.Cut
	Tests           few[api.TestChange]
	Path            *impact.Path
	Doors           []door // set: the box is elsewhere afterwards
	Lockout         string
	Steps           few[api.Step]
	Diff            few[diffLine]
	Ruleset         few[string] // lines of how the packet filter's rules differ
}

// maxLines is how much of one kind a page shows: a first configuration changes everything.
const maxLines = 200

// few is the first of many.
type few[T any] struct {
	First []T
	More  int
}

func fewOf[T any](all []T) few[T] {
	n := min(len(all), maxLines)
	return few[T]{all[:n], len(all) - n}
}

func (p *planView) tell(plan *api.Plan, file []byte) {
	p.Warnings, p.Missing, p.Cut, p.Path = problemsIn(plan.Warnings, file), plan.Missing, plan.Cut, plan.Path
	p.Interrupts, p.Tests, p.Steps, p.Reach = fewOf(plan.Interrupts), fewOf(plan.Tests), fewOf(plan.Steps), fewOf(reachLines(plan.Reach))
	for _, r := range plan.Reach {
		if r.Possible {
			p.Becomes++
		} else {
			p.Ceases++
		}
	}
	if plan.Lockout != "" {
		p.Lockout = api.LockoutText(plan.Lockout)
	}
	if d := plan.Ruleset; d != nil {
		p.Ruleset = fewOf(slices.Collect(strings.Lines(d.Text)))
		p.Ruleset.More += d.More
	}
}

func (p planView) title() string {
	if p.Refused != nil {
		return "This cannot be used as it is"
	}
	return "What the change would do"
}

// Nothing reports whether the change changes nothing.
func (p planView) Nothing() bool { return len(p.Diff.First) == 0 }

// reachLine is what becomes possible or no longer is.
type reachLine struct {
	Possible           bool
	From, To, Services string
}

func reachLines(all []api.Reach) (lines []reachLine) {
	for _, r := range all {
		lines = append(lines, reachLine{r.Possible, r.From, r.To, strings.Join(r.Services, ", ")})
	}
	return lines
}

// door is where the box can be managed.
type door struct {
	At, Text string
}

// doors are where the box is to be looked for after a change, if that is elsewhere.
func (v *visit) doors(p *impact.Path) (doors []door) {
	if p == nil || !p.Moves {
		return nil
	}
	for _, d := range p.At {
		doors = append(doors, door{v.pendingAt(d.Address), fmt.Sprintf("zone %s, %s", d.Zone, d.Place)})
	}
	return doors
}

// pendingAt is where a change is kept on an address of the box.
func (v *visit) pendingAt(a netip.Addr) string {
	return "https://" + v.s.authority(a.String()) + "/pending"
}

// refusedView is why a file cannot be used.
type refusedView struct {
	Problems []problem
	Failed   []string
	Lockout  string
	Hint     string
}

// problem is one thing that is wrong with a file, and the line.
type problem struct {
	Line, Col      int // 0: nowhere in particular
	Key, Msg, Hint string
	Warning        bool
	Text           string // of the line
}

func refusedOf(r *api.Refused, file []byte) *refusedView {
	view := &refusedView{Problems: problemsIn(r.Problems, file), Hint: r.Hint}
	for _, f := range r.Failed {
		view.Failed = append(view.Failed, f.String())
	}
	if r.Lockout != "" {
		view.Lockout = api.LockoutText(r.Lockout)
	}
	return view
}

// problemsIn lists problems with the lines of the file that they are about.
func problemsIn(all diag.List, file []byte) (problems []problem) {
	lines := strings.Split(string(file), "\n")
	for _, p := range all.Sorted() {
		out := problem{Line: p.Pos.Line, Col: p.Pos.Col, Key: p.Key, Msg: p.Msg, Hint: p.Hint, Warning: p.Severity == diag.Warning}
		if n := p.Pos.Line; n > 0 && n <= len(lines) {
			out.Text = strings.TrimRight(lines[n-1], "\r")
		}
		problems = append(problems, out)
	}
	return problems
}

// diffLine is one line of how two texts differ.
type diffLine struct {
	Kind string // added, removed, same, or place: where the next ones are
	Text string // without the sign
}

// Sign says in a character what the colour does.
func (d diffLine) Sign() string {
	switch d.Kind {
	case "added":
		return "+"
	case "removed":
		return "−"
	}
	return ""
}

// diffLines takes a difference apart that is in the unified format.
func diffLines(unified string) (lines []diffLine) {
	for line := range strings.Lines(unified) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case len(lines) == 0 && (strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ ")):
		case strings.HasPrefix(line, "@@"):
			lines = append(lines, diffLine{"place", placeOf(line)})
		case strings.HasPrefix(line, "+"):
			lines = append(lines, diffLine{"added", line[1:]})
		case strings.HasPrefix(line, "-"):
			lines = append(lines, diffLine{"removed", line[1:]})
		case strings.HasPrefix(line, `\`):
			lines = append(lines, diffLine{"place", "The last line has no end."})
		default:
			lines = append(lines, diffLine{"same", strings.TrimPrefix(line, " ")})
		}
	}
	return lines
}

// placeOf reads where a hunk is in the new text: @@ -3,7 +3,8 @@ is line 3.
func placeOf(hunk string) string {
	_, at, _ := strings.Cut(hunk, "+")
	line, _, _ := strings.Cut(strings.TrimRight(at, " @"), ",")
	return "Line " + line
}

// maxChangeForm bounds a form with a configuration: text of which some bytes are written as
// three, if it is not packed.
const maxChangeForm = 2*api.MaxFile + maxForm

// proposed reads a proposal from a form.
func (v *visit) proposed() (p proposal, err error) {
	f, err := v.form(maxChangeForm)
	if err != nil {
		return p, err
	}
	p = proposal{Name: f.Get("name"), Why: strings.TrimSpace(f.Get("why"))}
	p.File, err = fileIn(f)
	return p, err
}

// pack writes a file for a form that carries it from page to page: short, and such that
// browsers leave its line ends alone.
func pack(file []byte) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(file) // memory takes it
	_ = z.Close()
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// unpack is the other direction.
func unpack(data string) ([]byte, error) {
	z, err := gzip.NewReader(base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(data)))
	if err != nil {
		return nil, err
	}
	file, err := io.ReadAll(io.LimitReader(z, api.MaxFile+1))
	if err == nil && len(file) > api.MaxFile {
		err = fmt.Errorf("it has more than %d bytes", api.MaxFile)
	}
	return file, err
}

// fileIn is the file that a form carries: packed, or as somebody typed it.
func fileIn(f url.Values) ([]byte, error) {
	if f.Has("data") {
		file, err := unpack(f.Get("data"))
		if err != nil {
			return nil, fmt.Errorf("%w: the file: %w", errForm, err)
		}
		return file, nil
	}
	if !f.Has("file") {
		return nil, fmt.Errorf("%w: there is no file in it", errForm)
	}
	return bytes.ReplaceAll([]byte(f.Get("file")), []byte("\r\n"), []byte("\n")), nil
}

func (v *visit) planPage() error {
	p, err := v.proposed()
	if err != nil {
		return err
	}
	return v.propose(p)
}

// tried is a change that was tried here. Whoever made it may keep it from any session of
// theirs: one that moves the box takes the browser's session away, which is bound to the
// address. It is gone with this process, and the change is undone then.
type tried struct {
	id, user, token string
	at              time.Duration // since boot: it was in force by then
}

func (v *visit) try() error {
	p, err := v.proposed()
	if err != nil {
		return err
	}
	newest, err := v.newest()
	if err != nil {
		return err
	}
	minutes, err := strconv.Atoi(v.PostForm.Get("minutes"))
	switch {
	case err != nil || minutes < 1 || minutes > maxMinutes:
		p.err = fmt.Sprintf("The time to decide is from 1 to %d minutes.", maxMinutes)
	case v.PostForm.Get("base") != strconv.Itoa(newest.Number):
		// The file may have been made out of one that is not in force any more.
		p.err = fmt.Sprintf("Change %d by %s was kept since you looked. Look again: the difference below may take it back.", newest.Number, or(newest.Author, "somebody"))
	case p.Why == "":
		p.err = "Say why the change is made: the history keeps it."
	}
	if p.err != "" {
		p.status = http.StatusUnprocessableEntity
		return v.propose(p)
	}
	// Whether the browser still hears us or not: the change may have moved the box.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.Context()), writeTime)
	defer cancel()
	t, err := v.box().Apply(ctx, api.Change{
		File: api.File{Name: p.Name, Data: p.File}, Via: api.ViaUI, Why: p.Why,
		Terms: api.Terms{Window: api.Window(time.Duration(minutes) * time.Minute)},
	})
	switch {
	case err == nil:
	case isBusy(err), isRefused(err):
		p.status = http.StatusConflict // the plan is asked for again, and says it
		return v.propose(p)
	case errors.Is(err, api.ErrDenied), errors.Is(err, api.ErrStranger), errors.Is(err, api.ErrUnreachable):
		return err
	default:
		p.status, p.err = http.StatusConflict, "The change is not in force, and all is as before: "+err.Error()
		return v.propose(p)
	}
	v.s.tried.Store(&tried{t.ID, v.caller.Name, t.Token, api.Uptime()})
	v.hangUp()
	return v.see("/pending")
}

// hangUp has the browser open a new connection for what comes next. A change is kept over
// a connection that is younger than it, which shows that the box can be reached.
func (v *visit) hangUp() { v.w.Header().Set("Connection", "close") }

// tooOld reports whether a request came over a connection that is older than a change.
func (v *visit) tooOld(t *tried) bool { return api.Accepted(v.Context()) <= t.at }

// anew has the browser ask the same once more. It may have more connections than that over
// which the change was tried, or use one that is just being closed: each is closed as it is
// used, until there is a new one.
func (v *visit) anew() error {
	v.hangUp()
	http.Redirect(v.w, v.Request, v.URL.Path, http.StatusTemporaryRedirect)
	return nil
}

// triedHere returns the change that is pending if the visitor made it here, or nil.
func (v *visit) triedHere(id string) *tried {
	if t := v.s.tried.Load(); t != nil && t.id == id && t.user == v.caller.Name {
		return t
	}
	return nil
}

// meant reads which change a form is about: another one may be pending by now.
func (v *visit) meant() (id string, err error) {
	f, err := v.form(maxForm)
	if err == nil && f.Get("id") == "" {
		err = fmt.Errorf("%w: it does not say which change", errForm)
	}
	return f.Get("id"), err
}

func (v *visit) keep() error {
	id, err := v.meant()
	if err != nil {
		return err
	}
	t := v.triedHere(id)
	if t == nil {
		return v.see("/pending") // which says what is the case
	}
	if v.tooOld(t) {
		return v.anew()
	}
	_, err = v.box().Confirm(v.Context(), api.Confirm{Token: t.token})
	if errors.Is(err, api.ErrNothing) {
		return v.see("/pending") // its time is over
	}
	if err != nil {
		return err
	}
	return v.seeDone("/pending", "kept")
}

func (v *visit) undo() error {
	id, err := v.meant()
	if err != nil {
		return err
	}
	_, err = v.box().Cancel(v.Context(), api.Cancel{ID: id})
	if err != nil && !errors.Is(err, api.ErrNothing) {
		return err
	}
	return v.see("/pending")
}

// pendingView is the change that is being tried.
type pendingView struct {
	ID, Author, Why, Name string
	Via                   string
	Trying                bool // it is not in force everywhere yet
	Since, Deadline       when
	Left                  int // seconds
	LeftText              string
	Mine                  bool // it was tried on these pages, by the visitor
	Lost                  bool // it was, and cannot be kept: the token is gone
	MayKeep, MayUndo      bool
	Reach                 few[reachLine]
	Moves                 []string
	Back                  []door // where the box is again once it is undone
	Checks                []check
}

// check is something that should work under the change.
type check struct {
	Good       bool
	What, Text string
}

// pendingPageView is the page of it, or of what became of the last.
type pendingPageView struct {
	Pending *pendingView
	Last    *outcomeView
}

// outcomeView is what became of a change.
type outcomeView struct {
	Author, Why, Text string
	Kept              bool
	Time              when
}

func (v *visit) outcome(o *api.Outcome) *outcomeView {
	return &outcomeView{or(o.Author, "somebody"), o.Why, upperFirst(o.String()) + ".", o.End == api.EndConfirmed, v.when(o.Time)}
}

func (p pendingPageView) title() string {
	switch {
	case p.Pending != nil:
		return "Pending change"
	case p.Last == nil:
		return "No change is pending"
	case p.Last.Kept:
		return "The change is kept"
	}
	return "The change is undone"
}

func (p pendingPageView) refresh() int {
	if p.Pending == nil {
		return 0
	}
	return max(1, min(10, p.Pending.Left+2))
}

func (v *visit) pendingPage() error {
	t, err := v.box().Pending(v.Context())
	if err != nil {
		return err
	}
	var view pendingPageView
	if t.Pending != nil {
		if mine := v.triedHere(t.Pending.ID); mine != nil && v.tooOld(mine) {
			return v.anew()
		}
		view.Pending = v.pending(t.Pending)
		view.Pending.Checks = v.checks(t.Pending)
		v.hangUp()
	} else if o := t.Last; o != nil {
		view.Last = v.outcome(o)
	}
	return v.show("pending", view)
}

func (v *visit) pending(p *api.Pending) *pendingView {
	view := &pendingView{
		ID: p.ID, Author: or(p.Author, "somebody"), Why: p.Why, Name: p.Name, Via: viaText(p.Via), Trying: p.Phase == api.Trying,
		Since: v.when(p.Since), Deadline: v.when(p.Deadline), Left: max(0, int(time.Duration(p.Left).Seconds())), LeftText: p.Left.String(),
		Mine: v.triedHere(p.ID) != nil, MayUndo: v.may(access.Apply), Reach: few[reachLine]{reachLines(p.Reach), p.More},
	}
	view.Lost = v.mine(p) && !view.Mine && !view.Trying
	view.MayKeep = view.MayUndo && view.Mine && !view.Trying
	for _, m := range p.Moves {
		view.Moves = append(view.Moves, moveText(m))
		if m.From.IsValid() && m.From != m.To {
			view.Back = append(view.Back, door{v.pendingAt(m.From), "zone " + m.Zone})
		}
	}
	return view
}

// checks are what netcfgd knows of what should work, and that the visitor is here at all.
func (v *visit) checks(p *api.Pending) (checks []check) {
	say := func(good bool, what, text string) { checks = append(checks, check{good, what, text}) }
	management := fmt.Sprintf("the box answers %s", addrOf(v.RemoteAddr))
	if v.triedHere(p.ID) != nil {
		management += " over a new connection"
	}
	say(true, "Management", management)
	st := v.look()
	if st == nil {
		return checks
	}
	switch {
	case st.NoUplink:
		say(true, "Internet", "the configuration has no uplink")
	case st.Uplink != nil:
		say(true, "Internet", fmt.Sprintf("the uplink has the address %s", st.Uplink.Address))
	default:
		say(false, "Internet", "the uplink has no address")
	}
	if len(st.Untaken) > 0 {
		say(false, "Services", "these have not taken the change, and perhaps do not run: "+strings.Join(st.Untaken, ", "))
	} else {
		say(true, "Services", "all that run have taken the change")
	}
	v.checkAnswers(say)
	if troubles := slices.Concat(st.Missing, st.Troubles); len(troubles) > 0 {
		say(false, "Network", strings.Join(troubles, "; "))
	} else {
		say(true, "Network", "everything is as the change wants it")
	}
	return checks
}

// askChecks has the box's own programs asked as their clients would ask them. updated
// knows how: so it is on boxes that were started from a disk of ours.
func (v *visit) askChecks() ([]update.Check, error) {
	return v.updates().Checks(v.Context())
}

// checkAnswers says which of the box's own programs answer, where that is known.
func (v *visit) checkAnswers(say func(good bool, what, text string)) {
	list, err := v.askChecks()
	if err != nil {
		v.s.log.Debug("ask for checks", "err", err)
		return
	}
	var well []string
	for _, c := range list {
		if c.Error == "" {
			well = append(well, c.What)
		}
	}
	if len(well) > 0 {
		say(true, "Answers", strings.Join(well, ", "))
	}
	for _, c := range list {
		if c.Error != "" {
			say(false, upperFirst(c.What), "there is no answer: "+c.Error)
		}
	}
}

func moveText(m api.Move) string {
	switch {
	case !m.From.IsValid():
		return fmt.Sprintf("The box is at %s in zone %s now, too.", m.To, m.Zone)
	case !m.To.IsValid():
		return fmt.Sprintf("The box is no longer at %s: zone %s is no admin zone any more.", m.From, m.Zone)
	case m.From == m.To:
		return fmt.Sprintf("The box is at %s as before, but zone %s is elsewhere now.", m.To, m.Zone)
	}
	return fmt.Sprintf("The box is at %s in zone %s now, no longer at %s.", m.To, m.Zone, m.From)
}

// viaText is which way a change came in, in words.
func viaText(via api.Via) string {
	switch via {
	case api.ViaUI:
		return "these pages"
	case api.ViaCLI:
		return "the command line"
	case api.ViaAPI:
		return "the API"
	case api.ViaConsole:
		return "the console"
	}
	return string(via)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
