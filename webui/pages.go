//go:build linux

package webui

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// page is something that a browser may ask for. From the pages, the server and the
// navigation are made, and the tests of who may see what.
type page struct {
	ask   string       // method and path, with the parts that vary in braces
	need  access.Scope // that is needed, or everybody or member
	title string       // of what GET shows
	nav   bool         // it stands in the navigation
	serve func(*visit) error
}

// Whom pages are for, where that is no scope.
const (
	everybody access.Scope = ""     // nobody needs to be known
	member    access.Scope = "user" // who is logged in
)

// allPages returns all of them, in the order of the navigation.
func allPages() []page {
	return slices.Concat(boxPages, zonePages, devicePages, flowPages, livePages, talkPages, suggestPages, configPages, changePages, setupPages, reportPages, systemPages, adminPages, accountPages, clientPages, entryPages)
}

//go:embed templates
var templates embed.FS

// sheets are the templates of pages by name, each with what all have in common.
var sheets = parseSheets()

func parseSheets() map[string]*template.Template {
	common := template.Must(template.New("").Funcs(template.FuncMap{"sessions": sessionTable, "inc": func(i int) int { return i + 1 }}).ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	names, err := templates.ReadDir("templates")
	if err != nil {
		panic(err) // they are in the program
	}
	list := map[string]*template.Template{}
	for _, n := range names {
		name, ok := strings.CutSuffix(n.Name(), ".html")
		if ok && name != "layout" && name != "parts" {
			list[name] = template.Must(template.Must(common.Clone()).ParseFS(templates, "templates/"+n.Name()))
		}
	}
	return list
}

// visit is one request of a browser, by somebody who is known or not.
type visit struct {
	*http.Request
	w      http.ResponseWriter
	s      *server
	page   *page
	secret string      // of the session; "": none
	caller auth.Caller // zero: nobody
	status *api.Status // nil: not known, or not theirs to know
	barred bool        // they have shown no certificate of their own
}

// frame is what layout.html shows around a page.
type frame struct {
	Title   string
	Box     string // name
	Version string
	User    string // "": nobody is logged in
	Role    access.Role
	Nav     []navItem
	Pending *banner
	Done    string // what was just done, in words
	Style   string // address of the style sheet
	Script  string
	Icon    string
	Reload  bool   // scripts do so as well
	Refresh int    // seconds after which a browser without scripts asks again; 0: never
	Again   string // address that it asks for then
	View    any    // of the page
}

type navItem struct {
	Path, Title string
	Here        bool
}

// browse serves a page.
func (s *server) browse(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.o.pageTime())
		defer cancel()
		v := &visit{Request: r.WithContext(ctx), w: w, s: s, page: &p, secret: sessionIn(r)}
		if err := v.enter(); err != nil {
			v.refuse(err)
			return
		}
		if err := p.serve(v); err != nil {
			v.refuse(err)
		}
	})
}

// enter finds out who asks, and whether the page is for them.
func (v *visit) enter() error {
	if v.secret == "" && v.page.need == everybody {
		return nil
	}
	need := v.page.need
	if need == member {
		need = ""
	}
	look := v.s.access.Use
	if byItself(v.Request) {
		look = v.s.access.Check
	}
	caller, err := look(v.Context(), v.secret, need)
	if err != nil {
		if v.page.need == everybody {
			v.secret = "" // somebody whose session is over is nobody
			return nil
		}
		return err
	}
	if caller.Kind != auth.BySession {
		return &auth.Refusal{Status: http.StatusUnauthorized, Why: "a token is not for browsers: log in"}
	}
	v.caller = caller
	return v.certified()
}

// may reports whether whoever asks may use what needs a scope.
func (v *visit) may(need access.Scope) bool { return access.Allow(v.caller.Scopes, need) }

// box asks netcfgd on the visitor's behalf.
func (v *visit) box() *api.Client {
	return v.s.box.For(api.Behalf{Secret: v.secret, Address: addrOf(v.RemoteAddr), Connected: api.Accepted(v.Context())})
}

// auth asks authd on the visitor's behalf.
func (v *visit) auth(method, path string, in, out any) error {
	return v.s.access.Call(v.Context(), v.asker(), method, path, in, out)
}

func (v *visit) asker() auth.Asker {
	return auth.Asker{Secret: v.secret, From: addrOf(v.RemoteAddr), Agent: v.UserAgent()}
}

// see sends the browser on to a page, after it has sent a form.
func (v *visit) see(path string) error {
	http.Redirect(v.w, v.Request, path, http.StatusSeeOther)
	return nil
}

// seeDone is see, and has the page say that something is done: a key of [doneTexts].
func (v *visit) seeDone(path, done string) error {
	return v.see(path + "?done=" + url.QueryEscape(done))
}

// doneTexts are what pages say that were come to after something was done. They are not
// taken from the address, which others can make up.
var doneTexts = map[string]string{
	"password":   "Your password and code are set. Your other sessions have ended.",
	"nopassword": "Your password is removed. Your other sessions have ended.",
	"passkey":    "The passkey is added: you can log in with it from now on.",
	"nopasskey":  "The passkey is removed. Your other sessions have ended.",
	"session":    "The session has ended.",
	"role":       "The role is set.",
	"user":       "The user is removed, with all of their sessions.",
	"token":      "The token is revoked: it is worth nothing from now on.",
	"client":     "The certificate is revoked: a browser that shows it gets no further.",
	"logout":     "You are logged out.",
	"isolate":    "The device is isolated: it reaches nobody, and nobody reaches it.",
	"release":    "The device is released: it may do again what the rules allow.",
	"forgotten":  "The update is given up. The system that runs is as it was.",
	"kept":       "The change is kept.",
}

// show writes a page.
func (v *visit) show(sheet string, view any) error { return v.showAs(http.StatusOK, sheet, view) }

// titled is a view that has a title of its own.
type titled interface{ title() string }

// refreshing is a view that is old after some seconds.
type refreshing interface{ refresh() int }

// reloading is a refreshing view of which scripts keep no part up to date.
type reloading interface{ reload() bool }

func (v *visit) showAs(status int, sheet string, view any) error {
	f := frame{
		Title: v.page.title, Box: v.s.conf.Load().Name, Version: v.s.image.Version, Style: assetPath("style.css"), Script: assetPath("app.js"), Icon: assetPath("icon.svg"),
		Done: doneTexts[v.URL.Query().Get("done")], View: view,
	}
	if t, ok := view.(titled); ok {
		f.Title = t.title()
	}
	if t, ok := view.(refreshing); ok {
		f.Refresh, f.Again = t.refresh(), asksItself(v.URL)
	}
	if t, ok := view.(reloading); ok {
		f.Reload = t.reload()
	}
	f.User, f.Role = v.caller.Name, v.caller.Role
	if v.caller.Name != "" && !v.barred {
		f.Nav = v.navigation()
		if v.URL.Path != "/pending" { // which says it itself
			f.Pending = v.banner()
		}
	}
	var b bytes.Buffer
	if err := sheets[sheet].ExecuteTemplate(&b, "layout", f); err != nil {
		v.s.log.Error("write a page", "sheet", sheet, "err", err)
		http.Error(v.w, "the page cannot be written", http.StatusInternalServerError)
		return nil
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = b.WriteTo(v.w) // a browser that left needs no page
	return nil
}

// navigation is the pages that the visitor may see.
func (v *visit) navigation() (list []navItem) {
	for _, p := range v.s.nav {
		if p.need != member && !v.may(p.need) {
			continue
		}
		_, path, _ := strings.Cut(p.ask, " ")
		path = strings.TrimSuffix(path, "{$}")
		here := v.URL.Path == path || path != "/" && strings.HasPrefix(v.URL.Path, path+"/")
		list = append(list, navItem{path, p.title, here})
	}
	return list
}

// look returns the box's status, which is asked for once in a visit. It is nil for who may
// not know it.
func (v *visit) look() *api.Status {
	if v.status == nil && v.may(access.Read) {
		st, err := v.box().Status(v.Context())
		if err != nil {
			v.s.log.Debug("ask for the status", "err", err)
			st = new(api.Status)
		}
		v.status = st
	}
	return v.status
}

// when is a moment as people in the box's time zone read it.
type when struct {
	time.Time
}

// when says a moment in the time zone of the box.
func (v *visit) when(t time.Time) when {
	if t.IsZero() {
		return when{}
	}
	loc := time.UTC
	if st := v.look(); st != nil && st.Timezone != "" {
		if l, err := time.LoadLocation(st.Timezone); err == nil {
			loc = l
		}
	}
	return when{t.In(loc)}
}

// Machine is the moment for programs.
func (w when) Machine() string { return w.Format(time.RFC3339) }

// Text is the moment for people.
func (w when) Text() string { return w.Format("2006-01-02 15:04 MST") }

// refusal is the page that says why there is no other.
type refusal struct {
	Status int
	Head   string
	Why    []string
	Wait   int // seconds
	Login  bool
}

func (r refusal) title() string { return r.Head }

// statusOfPage is the HTTP status that tells of an error, and what to call it.
func statusOfPage(err error) (status int, head string) {
	if no, ok := errors.AsType[*auth.Refusal](err); ok {
		switch no.Status {
		case http.StatusForbidden:
			return no.Status, "Not allowed"
		case http.StatusNotFound:
			return no.Status, "Not found"
		case http.StatusTooManyRequests:
			return no.Status, "Too early"
		}
		return no.Status, "That is not possible"
	}
	switch {
	case errors.Is(err, api.ErrDenied):
		return http.StatusForbidden, "Not allowed"
	case errors.Is(err, api.ErrUnknown):
		return http.StatusNotFound, "Not found"
	case errors.Is(err, api.ErrNothing), isBusy(err):
		return http.StatusConflict, "That is not possible now"
	case errors.Is(err, api.ErrInvalid), errors.Is(err, api.ErrSecret), isRefused(err):
		return http.StatusUnprocessableEntity, "That is not possible"
	case errors.Is(err, auth.ErrAway), errors.Is(err, api.ErrUnreachable), errors.Is(err, errAway):
		return http.StatusServiceUnavailable, "A part of the box does not answer"
	case errors.Is(err, errForm):
		return http.StatusBadRequest, "The form was not understood"
	}
	return http.StatusInternalServerError, "Something went wrong"
}

func isBusy(err error) bool    { _, ok := errors.AsType[*api.Busy](err); return ok }
func isRefused(err error) bool { _, ok := errors.AsType[*api.Refused](err); return ok }

var (
	errForm = errors.New("the form is incomplete, or too long")
	errAway = errors.New("it does not answer")
)

// refuse shows why there is no page. Who is not known is asked to log in.
func (v *visit) refuse(err error) {
	if errors.Is(err, auth.ErrUnknown) || errors.Is(err, api.ErrStranger) {
		endSession(v.w)
		if v.Method != http.MethodGet || v.page.need == everybody {
			v.caller = auth.Caller{}
			v.showRefusal(refusal{Status: http.StatusUnauthorized, Head: "Log in again", Why: []string{"The session is over. What you sent was not done."}, Login: true})
			return
		}
		path := "/login"
		if v.URL.Path != "/" {
			path += "?next=" + url.QueryEscape(v.URL.RequestURI())
		}
		_ = v.see(path)
		return
	}
	if no, ok := errors.AsType[*barred](err); ok {
		v.barred = true
		v.s.noteBarred(v.w, v.Request, no)
		_ = v.showAs(http.StatusForbidden, "uncertified", barredView{upperFirst(no.Error()) + "."})
		return
	}
	status, head := statusOfPage(err)
	why := err.Error()
	if errors.Is(err, auth.ErrAway) {
		why = noAuthd
	} else if errors.Is(err, api.ErrUnreachable) {
		why = noNetcfgd
	}
	if status == http.StatusInternalServerError {
		v.s.log.Warn("a page", "path", v.URL.Path, "err", err)
	}
	if status == http.StatusForbidden {
		v.s.refused.warn("not allowed", "from", v.RemoteAddr, "user", v.caller.Name, "path", v.URL.Path)
	}
	v.showRefusal(refusal{Status: status, Head: head, Why: strings.Split(why, "\n")})
}

// showRefusal shows it, with what was typed if that was a lot.
func (v *visit) showRefusal(no refusal) {
	if !v.giveBack(no) {
		_ = v.showAs(no.Status, "refusal", no)
	}
}

// maxForm bounds a form, in bytes, but for that with a configuration.
const maxForm = 64 << 10

// form reads the form that was sent, of at most limit bytes.
func (v *visit) form(limit int64) (url.Values, error) {
	v.Body = http.MaxBytesReader(v.w, v.Body, limit)
	if err := v.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	return v.PostForm, nil
}

// script answers a request of a script of ours, which sends and reads JSON.
func (v *visit) script(answer any, err error) error {
	if err == nil {
		reply(v.w, http.StatusOK, answer)
		return nil
	}
	status, _ := statusOfPage(err)
	if status == http.StatusInternalServerError {
		v.s.log.Warn("a page", "path", v.URL.Path, "err", err)
	}
	fail(v.w, status, err.Error())
	return nil
}

// readScript reads what a script of ours has sent.
func readScript[T any](v *visit) (T, error) {
	var in T
	body := http.MaxBytesReader(v.w, v.Body, maxForm)
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return in, fmt.Errorf("%w: %w", errForm, err)
	}
	return in, nil
}
