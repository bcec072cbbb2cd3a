package conf_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
)

// plainFile is a good configuration with room for a sentence and a comment.
const plainFile = `ports:
  lan: {mac: "52:54:00:10:00:02"}
zones:
  home: {port: lan, subnet: 192.168.10.0/24, admin: true}
devices:
  nas: {zone: home, mac: "52:54:00:30:00:10", purpose: '%s'}
# %s
`

// secretsByForm are made up, and written in two pieces so that programs that look for
// lost secrets do not find them here.
var secretsByForm = map[string]string{
	"a private key":              "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
	"an age key":                 "AGE-SECRET-KEY-" + "1QQPQYLYPRNSCDKQ7D9TXN6GWWDW0V9TRQ4A3NHP5Q8Q8R3YYYZ0SXK2UA",
	"a token of Bulkhead":        "bulkhead_" + strings.Repeat("0123456789abcdef", 4),
	"a GitHub token":             "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
	"a GitLab token":             "glpat-" + "x7Kq2mPz9RtVw4Yb8NcA",
	"a Slack token":              "xoxb-" + "2384729384-2938472938472-AbCdEfGhIjKl",
	"an AWS access key":          "AKIA" + "IOSFODNN7EXAMPLE",
	"a Google API key":           "AIza" + "SyD4x8Kq2mPz9RtVw4Yb8NcA1Ef6Gh3Jk5L",
	"a Stripe key":               "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
	"a Tailscale key":            "tskey-auth-" + "kQ2mPz9RtVw4-Yb8NcA1Ef6Gh3Jk5L",
	"a DigitalOcean token":       "dop_v1_" + strings.Repeat("0123456789abcdef", 4),
	"a Vault token":              "hvs." + "CAESIJx7Kq2mPz9RtVw4Yb8NcA1Ef6",
	"an npm or PyPI token":       "npm_" + "x7Kq2mPz9RtVw4Yb8NcA1Ef6Gh3Jk5Lp0QsD",
	"an API key":                 "sk-" + "proj-x7Kq2mPz9RtVw4Yb8NcA1Ef6Gh3Jk5L",
	"a Telegram bot's token":     "110201543:" + "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw2",
	"a JSON web token":           "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
	"a hashed password":          "$6$" + "rounds=5000$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO",
	"a WireGuard key":            "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk" + "=",
	"an address with a password": "https://alex:" + "hunter2@example.org/repository.git",
}

// leaks returns the problems that say that a secret is in plain text.
func leaks(list diag.List) diag.List {
	var found diag.List
	for _, p := range list {
		if strings.Contains(p.Msg, "no place for secrets") {
			found = append(found, p)
		}
	}
	return found
}

func TestSecretsAreKnownByTheirForm(t *testing.T) {
	for kind, secret := range secretsByForm {
		t.Run(kind, func(t *testing.T) {
			for line, data := range map[int]string{
				6: fmt.Sprintf(plainFile, secret, "nothing here"),
				7: fmt.Sprintf(plainFile, "backups", "to be removed: "+secret),
			} {
				cfg, list := conf.Parse("home.yaml", []byte(data), now)
				found := leaks(list)
				if cfg != nil || len(found) != 1 || len(list) != 1 {
					t.Fatalf("line %d: got %v", line, list.Err())
				}
				p := found[0]
				text := strings.Split(data, "\n")[line-1]
				if p.Pos.Line != line || !strings.HasPrefix(text[p.Pos.Col-1:], secret) {
					t.Errorf("line %d: found at %s", line, p.Pos)
				}
				if !strings.Contains(p.Msg, kind) || !strings.Contains(p.Hint, "bulkhead secret set NAME") {
					t.Errorf("got %v", p)
				}
				if strings.Contains(p.Error(), secret[:12]) {
					t.Errorf("the problem shows the secret: %v", p)
				}
			}
		})
	}
}

// TestKeyInALineSaysNothingElse puts secrets where they are wrong for other reasons, which
// are usually told with what is wrong.
func TestKeyInALineSaysNothingElse(t *testing.T) {
	secret := secretsByForm["a GitHub token"]
	for _, line := range []string{
		"resolvers: [" + secret + "]",
		secret + ": {}",
		"groups: {all: [" + secret + "]}",
		"system: {name: " + secret + "}",
		"tests: " + secret,
	} {
		data := fmt.Sprintf(plainFile, "backups", "none") + line + "\n"
		for name, parse := range map[string]func() (ok bool, list diag.List){
			"new": func() (bool, diag.List) { c, l := conf.Parse("home.yaml", []byte(data), now); return c != nil, l },
			"confirmed": func() (bool, diag.List) {
				c, l := conf.ParseConfirmed("home.yaml", []byte(data), now)
				return c != nil, l
			},
		} {
			ok, list := parse()
			if ok || list.Err() == nil {
				t.Errorf("%s: %q is taken", name, line)
			}
			for _, p := range list {
				if strings.Contains(p.Error(), secret) {
					t.Errorf("%s: shows the secret: %v", name, p)
				}
			}
		}
	}
}

func TestWholePrivateKeyIsOneProblem(t *testing.T) {
	data := fmt.Sprintf(plainFile, "backups", "-----BEGIN RSA "+"PRIVATE KEY-----\n"+
		strings.Repeat("MIIEowIBAAKCAQEA1c7+9z5Pad7OejecsQ0buHvL7/0PmbJBBH5jnzN3ZtTT\n", 4)+
		"-----END RSA "+"PRIVATE KEY-----")
	cfg, list := conf.Parse("home.yaml", []byte(data), now)
	if cfg != nil || len(list) != 1 {
		t.Errorf("got %v", list.Err())
	}
}

func TestOrdinarySentencesAreNoSecrets(t *testing.T) {
	text, err := os.ReadFile("testdata/ordinary.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if conf.Random(line) {
			t.Errorf("taken for random: %s", line)
		}
		_, list := conf.Parse("home.yaml", []byte(fmt.Sprintf(plainFile, "backups", line)), now)
		if found := leaks(list); len(found) > 0 {
			t.Errorf("%s: %v", line, found[0])
		}
	}
}

// TestRandomSecretsAreFound makes secrets as programs do, the same ones each time. A few
// look like words by chance; that many may pass.
func TestRandomSecretsAreFound(t *testing.T) {
	const each = 2000
	dice := rand.NewChaCha8([32]byte{})
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = dice.Read(b) // never fails
		return b
	}
	for name, tt := range map[string]struct {
		secret    func() string
		tolerated int
	}{
		"base64, 24 bytes":      {func() string { return base64.StdEncoding.EncodeToString(noise(24)) }, each / 15},
		"base64url, 32 bytes":   {func() string { return base64.RawURLEncoding.EncodeToString(noise(32)) }, each / 15},
		"hexadecimal, 16 bytes": {func() string { return hex.EncodeToString(noise(16)) }, each / 100},
		"hexadecimal, 32 bytes": {func() string { return hex.EncodeToString(noise(32)) }, each / 100},
		"base32, 20 bytes":      {func() string { return base32.StdEncoding.EncodeToString(noise(20)) }, each / 5}, // few digits, and all letters are capitals
	} {
		missed := 0
		for range each {
			if !conf.Random("the token is '" + tt.secret() + "', keep it") {
				missed++
			}
		}
		if missed > tt.tolerated {
			t.Errorf("%s: %d of %d were missed", name, missed, each)
		}
	}
}

func TestConfirmedFileWithASecretStaysInForce(t *testing.T) {
	data := []byte(fmt.Sprintf(plainFile, "backups", secretsByForm["a GitHub token"]))
	cfg, list := conf.ParseConfirmed("home.yaml", data, now)
	if cfg == nil || len(list.Warnings()) != 1 || len(list) != 1 {
		t.Errorf("got %v, %v", cfg, list)
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range secretsByForm {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		conf.Random(line)
		cfg, list := conf.Parse("f.yaml", []byte(fmt.Sprintf(plainFile, "x", line)), now)
		if (cfg == nil) != (list.Err() != nil) {
			t.Errorf("configuration %v with error %v", cfg, list.Err())
		}
		kept, list := conf.ParseConfirmed("f.yaml", []byte(fmt.Sprintf(plainFile, "x", line)), now)
		if (kept == nil) != (list.Err() != nil) || cfg != nil && kept == nil {
			t.Errorf("configuration %v with error %v", kept, list.Err())
		}
	})
}
