package remote_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/auth/access"
	"bulkhead/webui/remote"
)

func profiles(t *testing.T) (remote.Profiles, string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	p, err := remote.Open()
	if err != nil {
		t.Fatal(err)
	}
	return p, filepath.Join(home, "bulkhead", "boxes")
}

func TestProfileIsFoundByNameAndAddressAndReadByItsOwnerOnly(t *testing.T) {
	p, dir := profiles(t)
	want := &remote.Profile{Name: "gw", URL: "https://192.168.10.1", Also: []string{"https://192.168.77.1"}, Fingerprint: access.Fingerprint{1}, Token: "bulkhead_x"}
	if err := p.Save(want); err != nil {
		t.Fatal(err)
	}
	for _, box := range []string{"gw", "192.168.10.1", "https://192.168.10.1/", "192.168.10.1:443", "192.168.77.1"} {
		got, err := p.Find(box)
		if err != nil {
			t.Errorf("%s: %v", box, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: profile differs (-want +got):\n%s", box, diff)
		}
	}
	for path, mode := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, "gw.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: got %v, %v", path, info.Mode(), err)
		}
	}
	for _, box := range []string{"other", "192.168.10.2", "../boxes/gw", "", "http://192.168.10.1"} {
		if v, err := p.Find(box); err == nil || !strings.Contains(err.Error(), "no box is known") {
			t.Errorf("%q: got %v, %v", box, v, err)
		}
	}
}

func TestTwoBoxesOfOneNameGetTwoProfiles(t *testing.T) {
	p, _ := profiles(t)
	if err := p.Save(&remote.Profile{Name: "gw", URL: "https://192.168.10.1", Fingerprint: access.Fingerprint{1}}); err != nil {
		t.Fatal(err)
	}
	if got := p.Free("gw", access.Fingerprint{1}); got != "gw" {
		t.Errorf("the same box: got %s", got)
	}
	if got := p.Free("gw", access.Fingerprint{2}); got != "gw-2" {
		t.Errorf("another: got %s", got)
	}
}

func TestAddressIsReadAsPeopleWriteIt(t *testing.T) {
	for s, want := range map[string]string{
		"192.168.77.1":              "https://192.168.77.1",
		"192.168.77.1:443":          "https://192.168.77.1",
		"192.168.77.1:8443":         "https://192.168.77.1:8443",
		"https://GW.home.arpa/":     "https://gw.home.arpa",
		"fd00::1":                   "https://[fd00::1]",
		"[fd00::1]:8443":            "https://[fd00::1]:8443",
		"http://192.168.77.1":       "",
		"https://a@192.168.77.1":    "",
		"https://192.168.77.1/x":    "",
		"https://192.168.77.1?x=y":  "",
		"":                          "",
		"ftp://192.168.77.1":        "",
		"https://192.168.77.1/#top": "",
	} {
		got, err := remote.ParseURL(s)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", s, got, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("https://[fd00::1]:8443/")
	f.Add("gw.home.arpa")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := remote.ParseURL(s)
		if err != nil {
			return
		}
		if again, err := remote.ParseURL(once); err != nil || again != once {
			t.Errorf("%q: got %q and then %q, %v", s, once, again, err)
		}
	})
}
