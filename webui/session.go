//go:build linux

package webui

import (
	"net/http"
	"net/url"
)

// cookieName begins with __Host-, so that browsers take it over HTTPS alone, for this host
// alone, and from nobody else in its domain (RFC 6265bis section 4.1.3.2).
const cookieName = "__Host-bulkhead"

// sessionIn returns the secret of the session that a browser has shown, or "".
func sessionIn(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

// beginSession has the browser keep a session until it is closed: authd ends it sooner if
// nobody uses it.
func beginSession(w http.ResponseWriter, secret string) { setCookie(w, cookieName, secret, 0) }

func endSession(w http.ResponseWriter) { setCookie(w, cookieName, "", -1) }

func setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// itself is the parameter in the addresses that our pages ask for by themselves, without
// anybody sitting there. A session ends when nobody has used it for long, and a page that
// loads itself again, or follows something, would keep it for as long as it lies open.
//
// Browsers could say so, by Sec-Fetch-User, which comes with what a person did. But not all
// do, and what says nothing would log out people at work: our pages mark what is not theirs,
// and the browser's word counts where it says that somebody was there after all.
const itself = "itself"

// asksItself marks an address of ours.
func asksItself(u *url.URL) string {
	q := u.Query()
	q.Set(itself, "1")
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: q.Encode()}).RequestURI()
}

// byItself reports whether a page has asked, and nobody else.
func byItself(r *http.Request) bool {
	return r.URL.Query().Has(itself) && r.Header.Get("Sec-Fetch-User") != "?1"
}
