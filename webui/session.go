//go:build linux

package webui

import "net/http"

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
