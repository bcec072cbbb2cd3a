//go:build linux

package webui

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
)

// adminPages are about who may come in, and who did.
var adminPages = []page{
	{"GET /users", access.Admin, "Users", true, (*visit).usersPage},
	{"POST /users", access.Admin, "Invitation", false, (*visit).addUser},
	{"POST /users/{name}/role", access.Admin, "", false, (*visit).setRole},
	{"POST /users/{name}/invitation", access.Admin, "Invitation", false, (*visit).invite},
	{"POST /users/{name}/remove", access.Admin, "", false, (*visit).removeUser},
	{"POST /sessions/{id}/end", access.Admin, "", false, (*visit).endSomeSession},
	{"GET /tokens", access.Admin, "Tokens", true, (*visit).tokensPage},
	{"POST /tokens", access.Admin, "A new token", false, (*visit).addToken},
	{"POST /tokens/{id}/revoke", access.Admin, "", false, (*visit).revokeToken},
	{"GET /certificates", access.Admin, "Client certificates", true, (*visit).allClientsPage},
	{"POST /certificates/{id}/revoke", access.Admin, "", false, (*visit).revokeAnyClient},
	{"GET /audit", access.Admin, "Audit log", true, (*visit).auditPage},
	{"GET /audit.csv", access.Admin, "", false, (*visit).auditCSV},
	{"GET /audit.json", access.Admin, "", false, (*visit).auditJSON},
}

// pathPart writes a word as one part of a path.
func pathPart(word string) string { return url.PathEscape(word) }

// usersView is who may come in, and who is in.
type usersView struct {
	Users    []userRow
	Sessions []sessionRow
	Roles    []roleRow
	Name     string // as it was typed
	Role     access.Role
	Error    string
}

type userRow struct {
	Name     string
	Role     access.Role
	Methods  string
	Added    when
	LastSeen when
	Me       bool
}

type roleRow struct {
	Role access.Role
	May  string
}

var roleRows = []roleRow{
	{access.Viewer, "sees everything but secrets"},
	{access.Operator, "isolates devices and looks into what goes wrong"},
	{access.Administrator, "changes the configuration, the box, and who may come in"},
}

func (v *visit) usersView() (view usersView, err error) {
	var users []access.User
	if err := v.auth("GET", "/v1/users", nil, &users); err != nil {
		return view, err
	}
	var sessions []access.Session
	if err := v.auth("GET", "/v1/sessions", nil, &sessions); err != nil {
		return view, err
	}
	view = usersView{Sessions: v.sessionRows(sessions), Roles: roleRows, Role: access.Viewer}
	for _, u := range users {
		view.Users = append(view.Users, userRow{u.Name, u.Role, methods(u), v.when(u.Created), v.when(u.LastSeen), u.Name == v.caller.Name})
	}
	return view, nil
}

// methods is what a user has to log in with, in words.
func methods(u access.User) string {
	var list []string
	switch n := len(u.Passkeys); n {
	case 0:
	case 1:
		list = append(list, "a passkey")
	default:
		list = append(list, fmt.Sprintf("%d passkeys", n))
	}
	if u.Password {
		list = append(list, "password and code")
	}
	if len(list) == 0 {
		return "nothing yet"
	}
	return strings.Join(list, ", ")
}

func (v *visit) usersPage() error {
	view, err := v.usersView()
	if err != nil {
		return err
	}
	return v.show("users", view)
}

// invitedView shows an invitation, this once.
type invitedView struct {
	User, Code string
	Until      when
	At         string // address to come in at
}

func (v *visit) addUser() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	in := auth.NewUser{Name: strings.TrimSpace(f.Get("name")), Role: access.Role(f.Get("role"))}
	var out auth.Invitation
	if err := v.auth("POST", "/v1/users", in, &out); err != nil {
		view, viewErr := v.usersView()
		if viewErr != nil {
			return viewErr
		}
		view.Name, view.Role = in.Name, in.Role
		return v.again(err, "users", "Users", func(why string) any { view.Error = why; return view })
	}
	return v.showInvitation(out)
}

func (v *visit) showInvitation(in auth.Invitation) error {
	at := v.named()
	if at == "" {
		host, _ := v.s.host(v.Request)
		at = "https://" + v.s.authority(host)
	}
	return v.show("invited", invitedView{in.User, in.Code, v.when(in.Expires), at + "/invitation"})
}

func (v *visit) invite() error {
	var out auth.Invitation
	if err := v.auth("POST", "/v1/users/"+pathPart(v.PathValue("name"))+"/invitation", auth.None{}, &out); err != nil {
		return err
	}
	return v.showInvitation(out)
}

func (v *visit) setRole() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	if err := v.auth("PUT", "/v1/users/"+pathPart(v.PathValue("name"))+"/role", auth.NewRole{Role: access.Role(f.Get("role"))}, nil); err != nil {
		return err
	}
	return v.seeDone("/users", "role")
}

func (v *visit) removeUser() error {
	if err := v.auth("DELETE", "/v1/users/"+pathPart(v.PathValue("name")), nil, nil); err != nil {
		return err
	}
	return v.seeDone("/users", "user")
}

func (v *visit) endSomeSession() error {
	if err := v.auth("DELETE", "/v1/sessions/"+pathPart(v.PathValue("id")), nil, nil); err != nil {
		return err
	}
	return v.seeDone("/users", "session")
}

// tokensView is the tokens of programs.
type tokensView struct {
	Tokens []tokenRow
	Scopes []scopeRow
	Any    []string // what every token opens
	Name   string   // as they were typed
	Until  string
	First  string // days between which a token may end
	Last   string
	Error  string
}

type tokenRow struct {
	ID, Name, Scopes       string
	Created, Used, Expires when
}

// scopeRow is a scope that a token may have.
type scopeRow struct {
	Scope   access.Scope
	May     string   // in a few words
	All     []string // what it opens, one by one
	Checked bool
}

// scopeRows lists the scopes, with what the API asks each of them for.
func scopeRows(checked []access.Scope) []scopeRow {
	rows := []scopeRow{
		{Scope: access.Read, May: "look at everything but secrets"},
		{Scope: access.Plan, May: "ask what a configuration would change"},
		{Scope: access.Operate, May: "isolate and release devices, and look into what goes wrong"},
		{Scope: access.Apply, May: "try and keep configurations"},
		{Scope: access.Update, May: "replace the system, and restart into the new one"},
		{Scope: access.Admin, May: "do all of it, and manage secrets, backups, access and the box’s power"},
	}
	for i := range rows {
		rows[i].All, rows[i].Checked = opens(rows[i].Scope), slices.Contains(checked, rows[i].Scope)
	}
	return rows
}

// opens lists what a scope opens, besides what others open as well.
func opens(scope access.Scope) (list []string) {
	for _, e := range endpoints {
		if e.scope == scope {
			list = append(list, e.summary)
		}
	}
	if scope == metricsScope {
		list = append(list, metricsSummary)
	}
	return list
}

const dayLayout = "2006-01-02"

func (v *visit) tokensView() (view tokensView, err error) {
	var tokens []access.Token
	if err := v.auth("GET", "/v1/tokens", nil, &tokens); err != nil {
		return view, err
	}
	now := v.when(time.Now())
	view.First, view.Last, view.Until = now.AddDate(0, 0, 1).Format(dayLayout), now.Add(access.MaxLife).Format(dayLayout), now.AddDate(0, 3, 0).Format(dayLayout)
	view.Scopes, view.Any = scopeRows(nil), opens(anyToken)
	for _, t := range tokens {
		var names []string
		for _, s := range t.Scopes {
			names = append(names, string(s))
		}
		view.Tokens = append(view.Tokens, tokenRow{t.ID, t.Name, strings.Join(names, ", "), v.when(t.Created), v.when(t.Used), v.when(t.Expires)})
	}
	return view, nil
}

func (v *visit) tokensPage() error {
	view, err := v.tokensView()
	if err != nil {
		return err
	}
	return v.show("tokens", view)
}

// madeView shows a token, this once.
type madeView struct {
	Name, Secret, Scopes string
	Expires              when
}

func (v *visit) addToken() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	in := access.TokenRequest{Name: strings.TrimSpace(f.Get("name"))}
	for _, s := range f["scope"] {
		in.Scopes = append(in.Scopes, access.Scope(s))
	}
	var out access.TokenAnswer
	// It ends with the day, as people mean it.
	day, err := time.ParseInLocation(dayLayout, f.Get("until"), v.when(time.Now()).Location())
	if err != nil {
		err = &auth.Refusal{Status: http.StatusUnprocessableEntity, Why: "the day on which it ends is such as 2027-03-31"}
	} else {
		in.Expires = day.AddDate(0, 0, 1)
		if last := time.Now().Add(access.MaxLife - time.Minute); in.Expires.After(last) && day.Before(last) {
			in.Expires = last
		}
		in.Expires = in.Expires.UTC().Truncate(time.Second)
		err = v.auth("POST", "/v1/tokens", in, &out)
	}
	if err != nil {
		view, viewErr := v.tokensView()
		if viewErr != nil {
			return viewErr
		}
		view.Name, view.Until, view.Scopes = in.Name, f.Get("until"), scopeRows(in.Scopes)
		return v.again(err, "tokens", "Tokens", func(why string) any { view.Error = why; return view })
	}
	return v.show("made", madeView{out.Name, out.Secret, strings.Join(f["scope"], ", "), v.when(out.Expires)})
}

func (v *visit) revokeToken() error {
	if err := v.auth("DELETE", "/v1/tokens/"+pathPart(v.PathValue("id")), nil, nil); err != nil {
		return err
	}
	return v.seeDone("/tokens", "token")
}

// auditShown is how many entries the page shows; the export has more.
const auditShown = 200

// auditView is who came in, and what they did that is no change of the configuration.
type auditView struct {
	Entries []auditRow
	Damaged int
	More    bool // there may be others
}

type auditRow struct {
	Time                      when
	Who, From, What, Of, More string
}

func (v *visit) audit(limit int) (a auth.Audit, err error) {
	return a, v.auth("GET", fmt.Sprintf("/v1/audit?limit=%d", limit), nil, &a)
}

func (v *visit) auditPage() error {
	a, err := v.audit(auditShown)
	if err != nil {
		return err
	}
	view := auditView{Damaged: a.Damaged, More: len(a.Entries) == auditShown}
	for _, e := range a.Entries {
		view.Entries = append(view.Entries, auditRow{v.when(e.Time), e.Who, fromText(e), e.What, e.Of, e.More})
	}
	return v.show("audit", view)
}

func fromText(e audit.Entry) string {
	if !e.From.IsValid() {
		return "the box"
	}
	return e.From.String()
}

// maxExport is as many entries as authd gives away at once.
const maxExport = 1000

func (v *visit) auditCSV() error {
	a, err := v.audit(maxExport)
	if err != nil {
		return err
	}
	v.download("audit.csv", "text/csv; charset=utf-8")
	w := csv.NewWriter(v.w)
	_ = w.Write([]string{"time", "who", "from", "what", "of", "more"})
	for _, e := range a.Entries {
		row := []string{e.Time.Format(time.RFC3339), e.Who, fromText(e), e.What, e.Of, e.More}
		for i := range row {
			row[i] = inert(row[i])
		}
		_ = w.Write(row)
	}
	w.Flush() // a browser that left needs no file
	return nil
}

// inert keeps spreadsheets from taking what strangers typed for a formula.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func (v *visit) auditJSON() error {
	a, err := v.audit(maxExport)
	if err != nil {
		return err
	}
	v.download("audit.json", "application/json")
	answer(v.w, a)
	return nil
}

// download has the browser keep what follows in a file.
func (v *visit) download(name, kind string) {
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s"`, fileName(v.s.conf.Load().Name), name))
}
