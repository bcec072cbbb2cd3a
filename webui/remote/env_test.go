package remote_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

func TestEnvironmentStandsInForAProfile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	known, err := remote.Open()
	if err != nil {
		t.Fatal(err)
	}
	pinned, other := access.Fingerprint{1}, access.Fingerprint{2}
	if err := known.Save(&remote.Profile{Name: "gw", URL: "https://192.168.10.1", Fingerprint: pinned, Token: "the owner's"}); err != nil {
		t.Fatal(err)
	}
	token := "bulkhead_" + strings.Repeat("0a", 32)
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lent := func(name, url string, f access.Fingerprint) *remote.Profile {
		return &remote.Profile{Name: name, URL: url, Fingerprint: f, Token: token, Lent: true}
	}
	for _, c := range []struct {
		name, box, token, file, fingerprint string
		want                                *remote.Profile
		why                                 string
	}{
		{"nothing is set", "gw", "", "", "", nil, ""},
		{"a box that nobody claimed", "https://192.168.20.1/", token, "", other.String(), lent("192.168.20.1", "https://192.168.20.1", other), ""},
		{"an address is enough", "192.168.20.1", token, "", other.String(), lent("192.168.20.1", "https://192.168.20.1", other), ""},
		{"the token is in a file", "192.168.20.1", "", path, other.String(), lent("192.168.20.1", "https://192.168.20.1", other), ""},
		{"the key of a box that was claimed is known", "gw", token, "", "", lent("gw", "https://192.168.10.1", pinned), ""},
		{"but the environment's counts", "gw", token, "", other.String(), lent("gw", "https://192.168.10.1", other), ""},
		{"no key", "https://192.168.20.1", token, "", "", nil, "does not say by which key to know https://192.168.20.1"},
		{"half a key", "https://192.168.20.1", token, "", "4X7M-09QT", nil, "BULKHEAD_FINGERPRINT is none"},
		{"no box", "", token, "", other.String(), nil, "names no box"},
		{"plain HTTP", "http://192.168.20.1", token, "", other.String(), nil, `"http://192.168.20.1" is no address of a box`},
		{"a token and more", "gw", token + "0", "", "", nil, "BULKHEAD_TOKEN holds no token"},
		{"two tokens", "gw", token, path, "", nil, "both BULKHEAD_TOKEN and BULKHEAD_TOKEN_FILE"},
		{"another file", "gw", "", filepath.Join(dir, "bulkhead/boxes/gw.json"), "", nil, "gw.json holds no token"},
	} {
		t.Setenv(remote.TokenEnv, c.token)
		t.Setenv(remote.TokenFileEnv, c.file)
		t.Setenv(remote.FingerprintEnv, c.fingerprint)
		got, err := remote.FromEnvironment(c.box, known)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: profile differs (-want +got):\n%s", c.name, diff)
		}
		switch {
		case c.why == "" && err != nil, c.why != "" && (!errors.Is(err, remote.ErrEnvironment) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: got %v", c.name, err)
		case err != nil && strings.Contains(err.Error(), token):
			t.Errorf("%s: the token is in the error: %v", c.name, err)
		}
		if got != nil {
			if err := known.Save(got); err != nil {
				t.Error(err)
			}
		}
	}
	if kept, err := known.Load("gw"); err != nil || kept.Token != "the owner's" || len(known.Names()) != 1 {
		t.Errorf("what is kept is %+v of %v, %v", kept, known.Names(), err)
	}
}
