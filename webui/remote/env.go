package remote

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"bulkhead/services/auth/access"
	"bulkhead/services/file"
)

// What a job says of a box that nobody claimed from where it runs.
const (
	TokenEnv       = "BULKHEAD_TOKEN"
	TokenFileEnv   = "BULKHEAD_TOKEN_FILE" // a file that holds the token
	FingerprintEnv = "BULKHEAD_FINGERPRINT"
)

// ErrEnvironment says that the environment does not make sense.
var ErrEnvironment = errors.New("the environment")

// FromEnvironment returns the profile of a box, by its address or name, with the token
// that the environment holds, or nil if it holds none. The key is the environment's as
// well, or that of a box that was claimed. The error wraps [ErrEnvironment] if something
// is missing there.
func FromEnvironment(box string, known Profiles) (*Profile, error) {
	token, err := tokenFromEnvironment()
	if token == "" || err != nil {
		return nil, err
	}
	if box == "" {
		return nil, wanting("names no box, and there is a token", "say which box the token is for: --box https://ADDRESS")
	}
	p, err := known.Find(box)
	if err != nil {
		at, err := ParseURL(box)
		if err != nil {
			return nil, &Error{Msg: err.Error(), Err: ErrEnvironment}
		}
		p = &Profile{Name: hostOf(at), URL: at}
	}
	p.Token, p.Lent = token, true
	text := os.Getenv(FingerprintEnv)
	switch {
	case text != "":
		if p.Fingerprint, err = access.ParseFingerprint(text); err != nil {
			return nil, wanting(fmt.Sprintf("%s is none: %v", FingerprintEnv, err), "it is what the box's console shows, 52 letters and digits")
		}
	case p.Fingerprint == access.Fingerprint{}:
		return nil, wanting(fmt.Sprintf("does not say by which key to know %s", p.URL),
			fmt.Sprintf("set %s to the fingerprint that the box's console shows, and \"bulkhead token create\" as well", FingerprintEnv))
	}
	return p, nil
}

func wanting(what, hint string) error {
	return &Error{Msg: "the environment: " + what, Hint: hint, Err: ErrEnvironment}
}

func tokenFromEnvironment() (string, error) {
	token, path := os.Getenv(TokenEnv), os.Getenv(TokenFileEnv)
	from := TokenEnv
	switch {
	case token != "" && path != "":
		return "", wanting(fmt.Sprintf("both %s and %s are set", TokenEnv, TokenFileEnv), "set one of them")
	case path != "":
		data, err := file.Read(path, maxProfile)
		if err != nil {
			return "", fmt.Errorf("%s: %w", TokenFileEnv, err)
		}
		token, from = string(data), path
	case token == "":
		return "", nil
	}
	if token = strings.TrimSpace(token); !access.IsToken(token) {
		return "", wanting(from+" holds no token", "a token begins with \"bulkhead_\" and has 64 characters after that; nothing else may be there")
	}
	return token, nil
}
