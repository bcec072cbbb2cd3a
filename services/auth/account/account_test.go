package account_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/services/auth/account"
	"bulkhead/services/auth/totp"

	"bulkhead/services/auth/access"
)

const pass = "four green kettles sing"

var (
	shared = totp.Secret([]byte("12345678901234567890"))
	home   = netip.MustParseAddr("192.168.10.20")
	site   = access.Site{Host: "gw.home.arpa", Origin: "https://gw.home.arpa", Box: "gw"}
)

func open(t *testing.T, dir string) *account.Store {
	t.Helper()
	return account.Open(dir, slog.New(slog.DiscardHandler), time.Now)
}

// alex is a store in which alex is admin and logs in by password.
func alex(t *testing.T) (*account.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Add("alex", access.Administrator); err != nil {
		t.Fatal(err)
	}
	if s.Owned() {
		t.Error("the box has an owner who cannot log in")
	}
	if err := s.SetPassword("alex", pass, shared, shared.Code(time.Now()), ""); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// nextCode waits until there is a code that was not used.
func nextCode() string {
	time.Sleep(30 * time.Second)
	return shared.Code(time.Now())
}

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := alex(t)
		if _, err := s.Login("alex", pass, shared.Code(time.Now()), home, ""); !errors.Is(err, account.ErrDenied) {
			t.Errorf("a code that was used: %v", err)
		}
		secret, err := s.Login("alex", pass, nextCode(), home, "Firefox\n\x00")
		if err != nil {
			t.Fatal(err)
		}
		session, user, err := s.Check(secret)
		if err != nil || user.Role != access.Administrator || session.Agent != "Firefox" || session.From != home {
			t.Errorf("got %+v of %+v, %v", session, user, err)
		}
		for name, try := range map[string][3]string{
			"another password": {"alex", pass + "x", nextCode()}, "another code": {"alex", pass, "000000"}, "another user": {"kim", pass, nextCode()},
			"no user": {"", "", ""},
		} {
			if _, err := s.Login(try[0], try[1], try[2], home, ""); !errors.Is(err, account.ErrDenied) || err.Error() != account.ErrDenied.Error() {
				t.Errorf("%s: %v", name, err)
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, account.File))
		if err != nil || strings.Contains(string(data), "kettles") || strings.Contains(string(data), secret) {
			t.Errorf("the file holds a secret: %v", err)
		}
		again := open(t, dir)
		if _, _, err := again.Check(secret); !errors.Is(err, account.ErrNoSession) {
			t.Errorf("a session outlives the process: %v", err)
		}
		if _, err := again.Login("alex", pass, nextCode(), home, ""); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	})
}

func TestThousandWrongLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := alex(t)
		if _, err := s.Login("alex", pass, nextCode(), home, ""); err != nil {
			t.Fatal(err)
		}
		// One address that does not give up, in every second for a quarter of an hour.
		guessed, from := 0, netip.MustParseAddr("192.168.10.66")
		for range 1000 {
			_, err := s.Login("alex", "password of somebody", "123456", from, "")
			if _, wait := errors.AsType[*account.WaitError](err); !wait {
				guessed++
			}
			time.Sleep(time.Second)
		}
		if guessed < 5 || guessed > 16 {
			t.Errorf("%d of 1000 guesses were looked at", guessed)
		}
		// A thousand addresses at once.
		guessed = 0
		for i := range 1000 {
			_, err := s.Login("alex", "password of somebody", "123456", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "")
			if _, wait := errors.AsType[*account.WaitError](err); !wait {
				guessed++
			}
		}
		if guessed > 20 {
			t.Errorf("%d of 1000 guesses by as many addresses were looked at", guessed)
		}
		// The owner is not kept out: neither from where they were before, nor, once the
		// guessing is over, from elsewhere.
		if _, err := s.Login("alex", pass, nextCode(), home, ""); err != nil {
			t.Errorf("the owner, from home: %v", err)
		}
		elsewhere := netip.MustParseAddr("192.168.10.21")
		if _, err := s.Login("alex", pass, nextCode(), elsewhere, ""); err == nil {
			t.Error("a stranger's address is let in while the account is guessed at")
		}
		time.Sleep(10 * time.Minute)
		if _, err := s.Login("alex", pass, nextCode(), elsewhere, ""); err != nil {
			t.Errorf("the owner, from elsewhere, later: %v", err)
		}
	})
}

func TestGuessesAtOnceAreCounted(t *testing.T) {
	s, _ := alex(t)
	answers := make(chan error)
	const n = 40
	for range n {
		go func() {
			_, err := s.Login("alex", "password of somebody", "123456", home, "")
			answers <- err
		}()
	}
	guessed := 0
	for range n {
		if _, wait := errors.AsType[*account.WaitError](<-answers); !wait {
			guessed++
		}
	}
	if guessed > 5 {
		t.Errorf("%d of %d guesses at once were looked at", guessed, n)
	}
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := alex(t)
		login := func() string {
			t.Helper()
			secret, err := s.Login("alex", pass, nextCode(), home, "")
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
		over := func(what, secret string, want bool) {
			t.Helper()
			if _, _, err := s.Use(secret); errors.Is(err, account.ErrNoSession) != want {
				t.Errorf("%s: %v", what, err)
			}
		}
		a := login()
		time.Sleep(11 * time.Hour)
		over("after 11 hours", a, false)
		time.Sleep(11 * time.Hour)
		over("used in between", a, false)
		// A page that nobody looks at asks again and again.
		for range 12 * 60 {
			time.Sleep(time.Minute)
			_, _, _ = s.Check(a)
		}
		over("after 12 hours idle", a, true)

		b := login()
		for range 14 {
			over("kept busy", b, false)
			time.Sleep(11*time.Hour + 59*time.Minute)
		}
		time.Sleep(time.Hour)
		over("after a week", b, true)

		c, d := login(), login()
		if err := s.End("kim", s.Sessions("alex")[0].ID); !errors.Is(err, account.ErrNoSession) {
			t.Errorf("somebody else ends a session: %v", err)
		}
		if err := s.SetPassword("alex", pass+" again", shared, nextCode(), c); err != nil {
			t.Fatal(err)
		}
		over("the one that changed the password", c, false)
		over("another one", d, true)
		over("nonsense", "bulkhead_session_", true)
		over("nothing", "", true)

		if err := s.Add("kim", access.Viewer); err != nil {
			t.Fatal(err)
		}
		k, err := s.Begin("kim", "claim", home, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetRole("kim", access.Operator); err != nil {
			t.Fatal(err)
		}
		if _, u, _ := s.Check(k); u.Role != access.Operator {
			t.Errorf("the role of a session is %q", u.Role)
		}
		if err := s.Remove("kim"); err != nil {
			t.Fatal(err)
		}
		over("of a user who is gone", k, true)
		for range 40 {
			if _, err := s.Begin("alex", "claim", home, strings.Repeat("ü", 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(s.Sessions("alex")); n != 16 {
			t.Errorf("%d sessions of one user", n)
		}
	})
}

func TestLastAdminStays(t *testing.T) {
	s, _ := alex(t)
	if err := s.Add("kim", access.Administrator); err != nil { // who cannot log in yet
		t.Fatal(err)
	}
	for what, err := range map[string]error{"removed": s.Remove("alex"), "demoted": s.SetRole("alex", access.Viewer)} {
		if !errors.Is(err, account.ErrLast) {
			t.Errorf("the last admin is %s: %v", what, err)
		}
	}
	if err := s.RemovePassword("alex", ""); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("the last way in is removed: %v", err)
	}
	for name, want := range map[string]error{"": account.ErrInvalid, "Alex": account.ErrInvalid, "a b": account.ErrInvalid, "alex": account.ErrTaken, "<script>": account.ErrInvalid} {
		if err := s.Add(name, access.Viewer); !errors.Is(err, want) {
			t.Errorf("user %q: %v", name, err)
		}
	}
	if err := s.Add("sam", "root"); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("role root: %v", err)
	}
}

func TestPasskey(t *testing.T) {
	s, dir := alex(t)
	key := &authenticator{t: t, origin: site.Origin}
	options, err := s.BeginPasskey("alex", site)
	if err != nil {
		t.Fatal(err)
	}
	made := key.create(options)
	if err := s.AddPasskey("alex", "laptop", access.Site{Host: site.Host, Origin: "https://evil.example", Box: "gw"}, made); err == nil {
		t.Error("a passkey for another site is kept")
	}
	if options, err = s.BeginPasskey("alex", site); err != nil {
		t.Fatal(err)
	}
	made = key.create(options)
	if err := s.AddPasskey("alex", "laptop", site, made); err != nil {
		t.Fatal(err)
	}
	if err := s.AddPasskey("alex", "laptop", site, made); err == nil {
		t.Error("an answer is taken twice")
	}
	login := func(s *account.Store, change func([]byte) []byte) (string, error) {
		t.Helper()
		o, err := s.BeginLogin(site)
		if err != nil {
			t.Fatal(err)
		}
		secret, _, err := s.FinishLogin(site, change(key.get(o)), home, "")
		return secret, err
	}
	as := func(b []byte) []byte { return b }
	secret, err := login(s, as)
	if err != nil {
		t.Fatal(err)
	}
	if session, user, err := s.Check(secret); err != nil || user.Name != "alex" || session.How != "passkey" {
		t.Errorf("got %+v of %+v, %v", session, user, err)
	}
	again := open(t, dir)
	if _, err := login(again, as); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	var last []byte
	if _, err := login(again, func(b []byte) []byte { last = b; return b }); err != nil {
		t.Fatal(err)
	}
	if _, err := login(again, func([]byte) []byte { return last }); err == nil {
		t.Error("an answer is replayed")
	}
	key.keys[len(key.keys)-1].count -= 3
	if _, err := login(again, as); !errors.Is(err, account.ErrDenied) {
		t.Errorf("a copy of the key: %v", err)
	}
	other := &authenticator{t: t, origin: site.Origin}
	if o, err := again.BeginPasskey("alex", site); err == nil {
		other.create(o) // and never told to the box
	}
	o, err := again.BeginLogin(site)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.FinishLogin(site, other.get(o), home, ""); !errors.Is(err, account.ErrDenied) {
		t.Errorf("a key that nobody added: %v", err)
	}
	keys := again.Users()[0].Passkeys
	if len(keys) != 1 || keys[0].Name != "laptop" || keys[0].Used.IsZero() {
		t.Fatalf("got %+v", keys)
	}
	if err := again.RemovePassword("alex", ""); err != nil {
		t.Errorf("with a passkey, the password is not removed: %v", err)
	}
	if err := again.RemovePasskey("alex", keys[0].ID, ""); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("the last way in is removed: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	s, dir := alex(t)
	if err := s.Add("kim", access.Viewer); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, account.File)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), `"viewer"`, `"god"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if users := open(t, dir).Users(); len(users) != 1 || users[0].Name != "alex" {
		t.Errorf("of a file with one bad user %+v are left", users)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if s := open(t, dir); len(s.Users()) != 0 || s.Owned() {
		t.Errorf("of half a file %+v are left", s.Users())
	}
	if _, err := os.Stat(filepath.Join(dir, "users.damaged.json")); err != nil {
		t.Errorf("the damaged file is not put aside: %v", err)
	}
}

func FuzzUsersFile(f *testing.F) {
	f.Add([]byte(`{"users":[{"name":"alex","role":"admin","handle":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, account.File), data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, u := range open(t, dir).Users() {
			if u.Name == "" || u.Role == "" {
				t.Errorf("got %+v", u)
			}
		}
	})
}

func FuzzPasskeyAnswers(f *testing.F) {
	s := account.Open(f.TempDir(), slog.New(slog.DiscardHandler), time.Now)
	if err := s.Add("alex", access.Administrator); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"oA"}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if s.AddPasskey("alex", "x", site, answer) == nil {
			t.Error("nonsense is taken for a passkey")
		}
		if _, _, err := s.FinishLogin(site, answer, home, ""); err == nil {
			t.Error("nonsense logs in")
		}
	})
}
