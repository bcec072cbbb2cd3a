//go:build linux

package webui

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	auth "bulkhead/services/auth/api"
)

// entryPages are the ways in and out.
var entryPages = []page{
	{"GET /login", everybody, "Log in", false, (*visit).loginPage},
	{"POST /login", everybody, "", false, (*visit).login},
	{"POST /login/passkey/begin", everybody, "", false, (*visit).beginPasskeyLogin},
	{"POST /login/passkey", everybody, "", false, (*visit).passkeyLogin},
	{"GET /claim", everybody, "Claim this box", false, (*visit).claimPage},
	{"POST /claim", everybody, "", false, (*visit).claim},
	{"GET /invitation", everybody, "Come in by an invitation", false, (*visit).invitationPage},
	{"POST /invitation", everybody, "", false, (*visit).redeemInvitation},
	{"POST /logout", member, "", false, (*visit).logout},
	{"GET /certificate", everybody, "Have your browser trust this box", false, (*visit).certificatePage},
	{"GET /ca.crt", everybody, "", false, (*visit).authorityFile},
}

// site is where passkeys are good for, and false where the browser has come to an address
// or a short name, of which no passkey can be one (WebAuthn section 5.1.2).
func (v *visit) site() (auth.Site, bool) {
	c := v.s.conf.Load()
	full := strings.ToLower(c.Name + "." + c.Domain)
	host, _ := v.s.host(v.Request)
	site := auth.Site{Host: full, Origin: "https://" + v.s.authority(full), Box: c.Name}
	return site, c.Domain != "" && host == full
}

// named is the address at which passkeys work; "": at none.
func (v *visit) named() string {
	c := v.s.conf.Load()
	if c.Name == "" || c.Domain == "" {
		return ""
	}
	return "https://" + v.s.authority(strings.ToLower(c.Name+"."+c.Domain))
}

// loginView is the page to log in at.
type loginView struct {
	User     string // as it was typed
	Next     string // where to go then
	Error    string
	Passkeys bool   // they can be used here
	Named    string // where else
}

func (v *visit) loginPage() error {
	if v.caller.Name != "" {
		return v.see(next(v.URL.Query().Get("next")))
	}
	if !v.owned() {
		return v.see("/claim")
	}
	return v.show("login", v.loginView(v.URL.Query().Get("next")))
}

func (v *visit) loginView(to string) loginView {
	_, here := v.site()
	return loginView{Next: next(to), Passkeys: here, Named: v.named()}
}

// owned reports whether the box has an owner; it has one while nobody knows.
func (v *visit) owned() bool {
	var o auth.Owner
	return v.auth("GET", "/v1/owner", nil, &o) != nil || o.Claimed
}

// next is where somebody goes who has logged in: a page of ours, whatever others say.
func next(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") ||
		strings.HasPrefix(to, "//") || strings.Contains(u.Path, `\`) || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return u.RequestURI()
}

// letIn begins a session in the browser. It is always a new one: whoever had set the
// cookie before knows nothing about it.
func (v *visit) letIn(secret string) {
	if v.secret != "" {
		_ = v.auth("POST", "/v1/logout", auth.None{}, nil) // it ends by itself otherwise
	}
	beginSession(v.w, secret)
}

func (v *visit) login() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	var in auth.Session
	ask := auth.Login{User: strings.TrimSpace(f.Get("user")), Password: f.Get("password"), Code: strings.TrimSpace(f.Get("code"))}
	if err := v.auth("POST", "/v1/login", ask, &in); err != nil {
		view := v.loginView(f.Get("next"))
		view.User = ask.User
		return v.again(err, "login", "Log in", func(why string) any { view.Error = why; return view })
	}
	v.letIn(in.Secret)
	return v.see(next(f.Get("next")))
}

// again shows a form once more, with what is wrong about what was sent.
func (v *visit) again(err error, sheet, title string, view func(why string) any) error {
	no, ok := errors.AsType[*auth.Refusal](err)
	if !ok || no.Status == http.StatusUnauthorized {
		return err
	}
	why := no.Why
	if no.Wait > 0 {
		v.w.Header().Set("Retry-After", fmt.Sprint(int(no.Wait.Seconds())))
	}
	p := *v.page
	p.title = title
	v.page = &p
	return v.showAs(no.Status, sheet, view(why))
}

var errNoSite = &auth.Refusal{Status: http.StatusUnprocessableEntity, Why: "passkeys work only at the box's full name, not at an address"}

func (v *visit) beginPasskeyLogin() error {
	site, ok := v.site()
	if !ok {
		return v.script(nil, errNoSite)
	}
	var o auth.Options
	err := v.auth("POST", "/v1/login/passkey/begin", site, &o)
	return v.script(o.Options, err)
}

// goTo is what our script is answered: where the browser is to go.
type goTo struct {
	To string `json:"to"`
}

func (v *visit) passkeyLogin() error {
	in, err := readScript[struct {
		Next   string          `json:"next"`
		Answer json.RawMessage `json:"answer"`
	}](v)
	if err != nil {
		return v.script(nil, err)
	}
	site, ok := v.site()
	if !ok {
		return v.script(nil, errNoSite)
	}
	var out auth.Session
	if err := v.auth("POST", "/v1/login/passkey", auth.Answer{Site: site, Answer: in.Answer}, &out); err != nil {
		return v.script(nil, err)
	}
	v.letIn(out.Secret)
	return v.script(goTo{next(in.Next)}, nil)
}

// claimView is the page to take a box at that has no owner, or again.
type claimView struct {
	Name, Code  string
	Error       string
	Claimed     bool
	Fingerprint string
}

func (v *visit) claimPage() error {
	return v.show("claim", claimView{Claimed: v.owned(), Fingerprint: v.s.identity.fingerprint().String()})
}

func (v *visit) claim() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	var out auth.Claimed
	ask := auth.Claim{Name: strings.TrimSpace(f.Get("name")), Code: strings.TrimSpace(f.Get("code"))}
	if ask.Code == "" {
		err = &auth.Refusal{Status: http.StatusUnprocessableEntity, Why: "the claim code is missing: the console of the box shows it"}
	} else {
		err = v.auth("POST", "/v1/claim", ask, &out)
	}
	if err != nil {
		v.s.refused.warn("claim refused", "from", v.RemoteAddr, "err", err)
		view := claimView{Name: ask.Name, Code: ask.Code, Claimed: v.owned(), Fingerprint: v.s.identity.fingerprint().String()}
		return v.again(err, "claim", "Claim this box", func(why string) any { view.Error = why; return view })
	}
	v.letIn(out.Secret)
	return v.see("/account")
}

// invitationView is the page to come in at for the first time.
type invitationView struct{ Error string }

func (v *visit) invitationPage() error { return v.show("invitation", invitationView{}) }

func (v *visit) redeemInvitation() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	var out auth.Session
	if err := v.auth("POST", "/v1/login/invitation", auth.Redeem{Code: f.Get("code")}, &out); err != nil {
		return v.again(err, "invitation", "Come in by an invitation", func(why string) any { return invitationView{why} })
	}
	v.letIn(out.Secret)
	return v.see("/account")
}

func (v *visit) logout() error {
	if err := v.auth("POST", "/v1/logout", auth.None{}, nil); err != nil {
		return err
	}
	endSession(v.w)
	return v.seeDone("/login", "logout")
}

// certificateView says how browsers come to believe that the box is itself.
type certificateView struct {
	There       bool
	Authority   string // what it is called
	Print       string // SHA-256 of the certificate, as browsers show it
	Names       []string
	Fingerprint string // of the box's key
	Named       string
}

func (v *visit) certificatePage() error {
	view := certificateView{Fingerprint: v.s.identity.fingerprint().String(), Names: namesOf(*v.s.conf.Load()), Named: v.named()}
	if c := v.s.identity.authority(); c != nil {
		view.There, view.Authority, view.Print = true, c.Subject.CommonName, colons(sha256.Sum256(c.Raw))
	}
	return v.show("certificate", view)
}

func colons(sum [sha256.Size]byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// authorityFile gives away the certificate of the box's authority, in the form that all
// systems open: DER.
func (v *visit) authorityFile() error {
	c := v.s.identity.authority()
	if c == nil {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "the box has no certificate authority yet: it has neither a name nor an address"}
	}
	v.w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	v.w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="bulkhead-%s.crt"`, fileName(v.s.conf.Load().Name)))
	_, _ = v.w.Write(c.Raw) // a browser that left needs no file
	return nil
}

// fileName is what is left of a name that any system takes for a file.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, name)
}
