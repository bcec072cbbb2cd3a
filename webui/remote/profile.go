package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/services/auth/access"
	"bulkhead/services/file"
)

// Profile is what a workstation knows of a box.
type Profile struct {
	Name        string             `json:"-"` // of the file
	URL         string             `json:"url"`
	Also        []string           `json:"also,omitempty"` // where it may be as well, since its address changed
	Fingerprint access.Fingerprint `json:"fingerprint"`
	Token       string             `json:"token"`
	Certificate []byte             `json:"certificate,omitempty"` // X.509, DER, that the box asks for; nil: it does not
	Key         []byte             `json:"key,omitempty"`         // its private key, PKCS #8
	Lent        bool               `json:"-"`                     // the token is the environment's: nothing is kept
}

// Dir returns the directory of everything that Bulkhead keeps on a workstation.
// https://specifications.freedesktop.org/basedir-spec
func Dir() (string, error) {
	if d := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "bulkhead"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".config", "bulkhead"), nil
}

// Profiles are the profiles in a directory: one file for each box.
type Profiles struct{ dir string }

// Open returns the profiles below [Dir].
func Open() (Profiles, error) {
	dir, err := Dir()
	return Profiles{filepath.Join(dir, "boxes")}, err
}

const profileExt = ".json"

// maxProfile bounds what is read of a profile, in bytes.
const maxProfile = 64 << 10

// Names returns the names of all boxes.
func (p Profiles) Names() []string {
	files, _ := filepath.Glob(filepath.Join(p.dir, "*"+profileExt)) // the pattern is a good one
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), profileExt)
	}
	return files
}

// Load returns the profile of a name. The error wraps [fs.ErrNotExist] if there is none.
func (p Profiles) Load(name string) (*Profile, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	path := p.path(name)
	data, err := file.Read(path, maxProfile)
	if err != nil {
		return nil, err
	}
	v := &Profile{Name: name}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := ParseURL(v.URL); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// Find returns the profile of a box by its name, or by an address that it has.
func (p Profiles) Find(box string) (*Profile, error) {
	if CheckName(box) == nil {
		v, err := p.Load(box)
		if !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
	}
	at, err := ParseURL(box)
	if err == nil {
		for _, name := range p.Names() {
			v, err := p.Load(name)
			if err == nil && (v.URL == at || contains(v.Also, at)) {
				return v, nil
			}
		}
	}
	hint := "claim it first: bulkhead claim ADDRESS; where nobody can, set " + TokenEnv + " and " + FingerprintEnv
	if names := p.Names(); len(names) > 0 {
		hint = "known are: " + strings.Join(names, ", ") + "; for another, bulkhead claim ADDRESS"
	}
	return nil, &Error{Msg: fmt.Sprintf("no box is known as %q", box), Hint: hint}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// Save writes a profile for its owner's eyes only. One with a token that is the
// environment's is not kept.
func (p Profiles) Save(v *Profile) error {
	if v.Lent {
		return nil
	}
	if err := CheckName(v.Name); err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if err := file.Replace(p.path(v.Name), append(data, '\n'), 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(p.dir)
}

// Free returns name, or name with a number if that is another box's.
func (p Profiles) Free(name string, of access.Fingerprint) string {
	for i := 1; ; i++ {
		try := name
		if i > 1 {
			try = fmt.Sprintf("%s-%d", name, i)
		}
		v, err := p.Load(try)
		if errors.Is(err, fs.ErrNotExist) || err == nil && v.Fingerprint == of {
			return try
		}
	}
}

func (p Profiles) path(name string) string { return filepath.Join(p.dir, name+profileExt) }

// CheckName reports what is wrong with the name of a profile, which is that of a file.
func CheckName(name string) error {
	if name == "" || name[0] == '.' || len(name) > 64 || strings.ContainsAny(name, "/:\x00") {
		return fmt.Errorf("%q is no name for a box", name)
	}
	return nil
}

// ParseURL reads where a box is, as people write it: an address, a name, either with
// a port, or a whole https URL. It returns the URL.
func ParseURL(s string) (string, error) {
	bad := func() (string, error) {
		return "", fmt.Errorf("%q is no address of a box: write 192.168.77.1 or https://192.168.77.1", s)
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		s = "[" + s + "]"
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return bad()
	}
	return "https://" + strings.TrimSuffix(strings.ToLower(u.Host), ":443"), nil
}
