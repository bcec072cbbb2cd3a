package password_test

import (
	"os/exec"
	"strings"
	"testing"

	"bulkhead/services/auth/password"
)

const good = "four green kettles sing"

func TestVerify(t *testing.T) {
	hash := password.Hash(good)
	if hash == password.Hash(good) {
		t.Error("two hashes of one password are the same: it has no salt")
	}
	if strings.Contains(hash, "kettles") {
		t.Error("the hash holds the password")
	}
	for _, tt := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"the password", hash, good, true},
		{"another", hash, good + " ", false},
		{"none", hash, "", false},
		{"no user", "", good, false},
		{"no user and no password", "", "", false},
		{"a hash cut off", hash[:len(hash)-1], good, false},
		{"another kind of hash", strings.Replace(hash, "argon2id", "argon2i", 1), good, false},
		{"one that asks for all the memory", strings.Replace(hash, "m=32768", "m=4294967295", 1), good, false},
		{"one of no passes", strings.Replace(hash, "t=3", "t=0", 1), good, false},
		{"a password longer than any", hash, strings.Repeat("a", 1<<20), false},
	} {
		if got := password.Verify(tt.hash, tt.password); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if password.Outdated(hash) || !password.Outdated(strings.Replace(hash, "t=3", "t=2", 1)) {
		t.Error("what is outdated is not known")
	}
}

// The reference implementation reads what we write. Its hash of a given salt is in the
// same form.
func TestHashIsThatOfTheReference(t *testing.T) {
	const salt = "somesaltsomesalt"
	cmd := exec.Command("argon2", salt, "-id", "-t", "3", "-k", "32768", "-p", "1", "-l", "32", "-e")
	cmd.Stdin = strings.NewReader(good)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s (Debian package argon2: make deps-test)", err, out)
	}
	if hash := strings.TrimSpace(string(out)); !password.Verify(hash, good) || password.Verify(hash, good+"x") {
		t.Errorf("not verified: %s", hash)
	}
}

func TestCheck(t *testing.T) {
	for p, ok := range map[string]bool{
		good: true, "пять-зелёных-чайников": true,
		"": false, "short": false, "aaaaaaaaaaaaaaaa": false, "password123": false, "alexalexalex": false, "Bulkhead2026": false,
		strings.Repeat("correct horse ", 20): false, "\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe": false,
	} {
		if err := password.Check(p, "alex"); (err == nil) != ok {
			t.Errorf("%.20q: %v", p, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, hash string) {
		if password.Valid(hash) == nil && !strings.HasPrefix(hash, "$argon2id$v=19$m=") {
			t.Errorf("%q is taken for a hash", hash)
		}
	})
}
