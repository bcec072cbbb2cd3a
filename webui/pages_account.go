//go:build linux

package webui

import (
	"encoding/json"
	"html/template"
	"strings"

	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
)

// accountPages are what users do about themselves.
var accountPages = []page{
	{"GET /account", member, "Account", true, (*visit).accountPage},
	{"GET /account/password", member, "Set a password", false, (*visit).passwordPage},
	{"POST /account/password", member, "", false, (*visit).setPassword},
	{"POST /account/password/remove", member, "", false, (*visit).removePassword},
	{"POST /account/passkeys/begin", member, "", false, (*visit).beginPasskey},
	{"POST /account/passkeys", member, "", false, (*visit).addPasskey},
	{"POST /account/passkeys/{id}/remove", member, "", false, (*visit).removePasskey},
	{"POST /account/sessions/{id}/end", member, "", false, (*visit).endMySession},
}

// accountView is what a user has to log in with, and where they are logged in.
type accountView struct {
	Name     string
	Role     access.Role
	Scopes   []access.Scope
	Password bool
	Passkeys []passkeyRow
	Sessions []sessionRow
	Fresh    bool // there is nothing yet to log in with
	Here     bool // passkeys can be made at this address
	Named    string
}

type passkeyRow struct {
	ID, Name    string
	Added, Used when
}

type sessionRow struct {
	ID, User, How, From, Agent string
	Began, Used                when
	This                       bool
}

func (v *visit) accountPage() error {
	var u access.User
	if err := v.auth("GET", "/v1/me", nil, &u); err != nil {
		return err
	}
	var sessions []access.Session
	if err := v.auth("GET", "/v1/me/sessions", nil, &sessions); err != nil {
		return err
	}
	_, here := v.site()
	view := accountView{
		Name: u.Name, Role: u.Role, Scopes: u.Role.Scopes(), Password: u.Password,
		Fresh: !u.Password && len(u.Passkeys) == 0, Here: here, Named: v.named(), Sessions: v.sessionRows(sessions),
	}
	for _, k := range u.Passkeys {
		view.Passkeys = append(view.Passkeys, passkeyRow{k.ID, k.Name, v.when(k.Added), v.when(k.Used)})
	}
	return v.show("account", view)
}

func (v *visit) sessionRows(list []access.Session) (rows []sessionRow) {
	for _, s := range list {
		rows = append(rows, sessionRow{s.ID, s.User, s.How, s.From.String(), browser(s.Agent), v.when(s.Created), v.when(s.Used), s.ID == v.caller.Session})
	}
	return rows
}

// sessionList is what the table of sessions is made of, on either page that has one.
type sessionList struct {
	Caption, Action string
	Users           bool // it is of several
	Rows            []sessionRow
}

func sessionTable(caption, action string, users bool, rows []sessionRow) sessionList {
	return sessionList{caption, action, users, rows}
}

// browser is what people call a browser that says of itself, say, "Mozilla/5.0 (X11; Linux
// x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36".
func browser(agent string) string {
	first := func(names ...string) string {
		for _, n := range names {
			word, shown, _ := strings.Cut(n, "=")
			if strings.Contains(agent, word) {
				return shown
			}
		}
		return ""
	}
	name := first("Edg/=Edge", "OPR/=Opera", "Firefox/=Firefox", "FxiOS/=Firefox", "Chrome/=Chrome", "CriOS/=Chrome", "Safari/=Safari")
	system := first("iPhone=iPhone", "iPad=iPad", "Android=Android", "Windows=Windows", "Mac OS X=macOS", "CrOS=ChromeOS", "Linux=Linux")
	switch {
	case name == "":
		return agent
	case system == "":
		return name
	}
	return name + " on " + system
}

// passwordView is the form for password and code, which are set together.
type passwordView struct {
	Name        string // for the browser's password manager
	Secret, URI string
	QR          template.HTML
	Error       string
	Replaces    bool
}

func (v *visit) passwordPage() error {
	var c auth.Code
	site, _ := v.site()
	if err := v.auth("POST", "/v1/me/code", site, &c); err != nil {
		return err
	}
	view, err := v.passwordView(c.Secret, c.URI, "")
	if err != nil {
		return err
	}
	return v.show("password", view)
}

func (v *visit) passwordView(secret, uri, why string) (passwordView, error) {
	var u access.User
	if err := v.auth("GET", "/v1/me", nil, &u); err != nil {
		return passwordView{}, err
	}
	view := passwordView{Name: v.caller.Name, Secret: secret, URI: uri, Error: why, Replaces: u.Password}
	// What is drawn again is what a browser sent: it is a URI of ours, or none.
	if strings.HasPrefix(uri, "otpauth://totp/") {
		var err error
		if view.QR, err = qrCode("QR code for the authenticator app: the secret is written below it", uri); err != nil {
			return passwordView{}, err
		}
	}
	return view, nil
}

func (v *visit) setPassword() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	in := auth.NewPassword{Password: f.Get("password"), Secret: f.Get("secret"), Code: strings.TrimSpace(f.Get("code"))}
	if err := v.auth("PUT", "/v1/me/password", in, nil); err != nil {
		view, viewErr := v.passwordView(in.Secret, f.Get("uri"), "")
		if viewErr != nil {
			return viewErr
		}
		return v.again(err, "password", "Set a password", func(why string) any { view.Error = why; return view })
	}
	return v.seeDone("/account", "password")
}

func (v *visit) removePassword() error {
	if err := v.auth("DELETE", "/v1/me/password", nil, nil); err != nil {
		return err
	}
	return v.seeDone("/account", "nopassword")
}

func (v *visit) beginPasskey() error {
	site, ok := v.site()
	if !ok {
		return v.script(nil, errNoSite)
	}
	var o auth.Options
	err := v.auth("POST", "/v1/me/passkeys/begin", site, &o)
	return v.script(o.Options, err)
}

func (v *visit) addPasskey() error {
	in, err := readScript[struct {
		Label  string          `json:"label"`
		Answer json.RawMessage `json:"answer"`
	}](v)
	if err != nil {
		return v.script(nil, err)
	}
	site, ok := v.site()
	if !ok {
		return v.script(nil, errNoSite)
	}
	err = v.auth("POST", "/v1/me/passkeys", auth.Answer{Site: site, Label: in.Label, Answer: in.Answer}, nil)
	return v.script(goTo{"/account?done=passkey"}, err)
}

func (v *visit) removePasskey() error {
	if err := v.auth("DELETE", "/v1/me/passkeys/"+pathPart(v.PathValue("id")), nil, nil); err != nil {
		return err
	}
	return v.seeDone("/account", "nopasskey")
}

func (v *visit) endMySession() error {
	if err := v.auth("DELETE", "/v1/me/sessions/"+pathPart(v.PathValue("id")), nil, nil); err != nil {
		return err
	}
	return v.seeDone("/account", "session")
}
