//go:build linux

package reconcile_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/secrets"
	"bulkhead/netcfg/svcconf"
)

// The values that are planted in these tests, and what they have in common.
const (
	plant  = "hunter2"
	first  = "tls://9.9.9.9#hunter2-first.dns.example"
	second = "tls://9.9.9.10#hunter2-second.dns.example"
)

const named = home + "resolvers: [{secret: account}, 9.9.9.9]\n"

// sending names secrets of all other kinds.
const sending = `
export:
  loki: {format: loki, to: "https://logs.example.com", at: 203.0.113.9, token: {secret: logs}}
alerts:
  chat: {by: webhook, to: "https://chat.example.com", at: 203.0.113.9, path: {secret: chat}, token: {secret: logs}}
  post: {by: mail, to: "smtp://mail.example.com", at: 203.0.113.9, user: box, password: {secret: mail}, from: box@example.com, recipients: alex@example.com}
`

func value(v string) api.NewSecret { return api.NewSecret{Value: api.Hidden(v), Author: "alex"} }

func (b *box) mustSet(name, v string) {
	b.t.Helper()
	if _, err := b.r.SetSecret(b.t.Context(), name, value(v)); err != nil {
		b.t.Fatal(err)
	}
}

// dnsd returns what dnsd was last told to ask.
func (b *box) dnsd() string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.run, svcconf.Dnsd.Name, svcconf.ConfigFile))
	if err != nil {
		b.t.Fatal(err)
	}
	var v svcconf.DNS
	if err := json.Unmarshal(data, &v); err != nil {
		b.t.Fatal(err)
	}
	var list []string
	for _, r := range v.Resolvers {
		list = append(list, r.Addr.String()+" "+r.Name)
	}
	return strings.Join(list, ", ")
}

func TestSecretThatIsNotSetRefusesTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer b.stop()
		b.mustApply(home)
		_, err := b.apply(named)
		want := `resolvers[0].secret: no secret "account" is set on the box` + "\n\thint: set it first: bulkhead secret set account"
		if refused, ok := errors.AsType[*api.Refused](err); !ok || !strings.HasSuffix(refused.Error(), want) {
			t.Errorf("got %v", err)
		}
		b.mustSet("account", "not a resolver, "+plant)
		_, err = b.apply(named)
		if _, ok := errors.AsType[*api.Refused](err); !ok || !strings.Contains(err.Error(), "bulkhead secret rotate account") || strings.Contains(err.Error(), plant) {
			t.Errorf("a value that does not fit: got %v", err)
		}
	})
}

func TestServiceGetsItsSecretsAndTheirNewValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustSet("account", first)
		b.mustApply(named)
		if got, want := b.dnsd(), "9.9.9.9:853 hunter2-first.dns.example, 9.9.9.9:53 "; got != want {
			t.Errorf("dnsd is told %q, want %q", got, want)
		}
		if _, err := b.r.RotateSecret(t.Context(), "account", value("no resolver at all, hunter2")); !errors.Is(err, api.ErrSecret) || strings.Contains(err.Error(), plant) {
			t.Errorf("a value that does not fit: got %v", err)
		}
		if _, err := b.r.RotateSecret(t.Context(), "account", value(second)); err != nil {
			t.Fatal(err)
		}
		after := "9.9.9.10:853 hunter2-second.dns.example, 9.9.9.9:53 "
		if got := b.dnsd(); got != after {
			t.Errorf("after the rotation dnsd is told %q", got)
		}
		if n := b.status().Confirmed.Number; n != 1 {
			t.Errorf("the rotation was change %d", n)
		}
		b.stop()
		b.boot()
		if got := b.dnsd(); got != after {
			t.Errorf("after a restart dnsd is told %q", got)
		}
		if _, err := b.r.RemoveSecret(t.Context(), "account"); !errors.Is(err, api.ErrSecret) || !strings.Contains(err.Error(), "resolvers[0].secret") {
			t.Errorf("a secret in use was removed: %v", err)
		}
		b.mustApply(home)
		if _, err := b.r.RemoveSecret(t.Context(), "account"); err != nil {
			t.Error(err)
		}
		if _, err := b.r.RemoveSecret(t.Context(), "account"); !errors.Is(err, api.ErrUnknown) {
			t.Errorf("what is gone was removed: %v", err)
		}
	})
}

// TestSecretIsKeptForAConfigurationThatMayComeBack has a change on trial that does not
// need a secret any more.
func TestSecretIsKeptForAConfigurationThatMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer b.stop()
		b.mustSet("account", first)
		b.mustApply(named)
		trial, err := b.try(home)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.r.RemoveSecret(t.Context(), "account"); !errors.Is(err, api.ErrSecret) {
			t.Errorf("a secret was removed that the confirmed configuration names: %v", err)
		}
		if _, err := b.r.RotateSecret(t.Context(), "account", value("no resolver")); !errors.Is(err, api.ErrSecret) {
			t.Errorf("a value was taken that does not fit the confirmed configuration: %v", err)
		}
		if _, err := b.r.RotateSecret(t.Context(), "account", value(second)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(trial.Left) + time.Minute) // nobody confirms
		synctest.Wait()
		if got, want := b.dnsd(), "9.9.9.10:853 hunter2-second.dns.example, 9.9.9.9:53 "; got != want {
			t.Errorf("after the trial dnsd is told %q, want %q", got, want)
		}
	})
}

func TestOverdueSecretsAreShownInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer b.stop()
		b.mustSet("account", first)
		b.mustApply(home)
		b.setClock(secrets.RemindAfter)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := b.status().Overdue; len(got) != 1 || got[0] != "account" {
			t.Errorf("old secrets are %v", got)
		}
	})
}

func TestLostSecretsAreToldAndStopNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustSet("account", first)
		b.mustApply(named)
		b.stop()
		if err := os.Truncate(filepath.Join(b.state, secrets.File), 100); err != nil {
			t.Fatal(err)
		}
		b.boot()
		s := b.status()
		if s.Mode != api.Running || !s.Applied || !strings.Contains(strings.Join(s.Troubles, "\n"), "bulkhead secret set") {
			t.Errorf("status is %+v", s)
		}
		if got := b.dnsd(); got != "9.9.9.9:53 " {
			t.Errorf("dnsd is told %q", got)
		}
		b.mustSet("account", second)
		if got := b.dnsd(); got != "9.9.9.10:853 hunter2-second.dns.example, 9.9.9.9:53 " {
			t.Errorf("once it is set anew dnsd is told %q", got)
		}
		if s := b.status(); len(s.Troubles) > 0 {
			t.Errorf("there is still trouble: %v", s.Troubles)
		}
	})
}

func TestExportdGetsWhatItNeedsOrIsNotToSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer b.stop()
		told := func() string {
			t.Helper()
			data, err := os.ReadFile(filepath.Join(b.run, svcconf.Exportd.Name, svcconf.ConfigFile))
			if err != nil {
				t.Fatal(err)
			}
			var c svcconf.Export
			if err := json.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			var list []string
			for _, e := range c.Exports {
				list = append(list, e.Name+" "+e.Token)
			}
			for _, a := range c.Alerts {
				list = append(list, strings.Join([]string{a.Name, a.Token, a.To.Path, a.Password}, " "))
			}
			return strings.Join(list, ", ")
		}
		b.mustApply(home)
		for name, v := range map[string]string{"logs": "two words are no token\n", "chat": "no-path", "mail": ""} {
			if _, err := b.r.SetSecret(t.Context(), name, value(v)); err != nil {
				continue // no secret at all
			}
			if _, err := b.apply(home + sending); err == nil {
				t.Errorf("%q was taken for %s", v, name)
			}
			if _, err := b.r.RemoveSecret(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		b.mustSet("logs", "let-me-in")
		b.mustSet("chat", "/services/x")
		b.mustSet("mail", "pass word")
		b.mustApply(home + sending)
		if got, want := told(), "loki let-me-in, chat let-me-in /services/x , post   pass word"; got != want {
			t.Errorf("exportd is told %q, want %q", got, want)
		}
		if _, err := b.r.RotateSecret(t.Context(), "chat", value("/services/y")); err != nil {
			t.Fatal(err)
		}
		if got := told(); !strings.Contains(got, "/services/y") {
			t.Errorf("after the rotation exportd is told %q", got)
		}
		b.mustApply(home)
		if got := told(); got != "" {
			t.Errorf("in the end exportd is told %q", got)
		}
	})
}

// TestSecretsLeakNowhere plants values and looks for them everywhere: in what is logged,
// in all that the API answers, and in all files but those that are meant for them.
func TestSecretsLeakNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen bytes.Buffer
		b := newBox(t)
		b.log = slog.New(slog.NewJSONHandler(&seen, &slog.HandlerOptions{Level: slog.LevelDebug}))
		b.boot()
		ctx := t.Context()
		owner, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		// What a backup holds that has other values under the same names.
		stolen, err := backup.Encode(&backup.Backup{
			Config: []byte("hunter2"), Secrets: []byte(`{"secrets": [{"name": "account", "value": "hunter2 of old", "set": "2026-11-27T12:00:00Z"}]}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		answers := func() {
			for _, ask := range []func() (any, error){
				func() (any, error) { return b.r.Status(ctx) },
				func() (any, error) { return b.r.Zones(ctx) },
				func() (any, error) { return b.r.Rules(ctx) },
				func() (any, error) { return b.r.Devices(ctx) },
				func() (any, error) { return b.r.Secrets(ctx) },
				func() (any, error) { return b.r.History(ctx) },
				func() (any, error) { return b.r.Entry(ctx, 1) },
				func() (any, error) { return b.r.SetSecret(ctx, "account", value("hunter2 again")) },
				func() (any, error) { return b.r.SetSecret(ctx, "NO NAME", value("hunter2 again")) },
				func() (any, error) { return b.r.RotateSecret(ctx, "account", value("hunter2 again")) },
				func() (any, error) { return b.r.RotateSecret(ctx, "account", value("\xffhunter2")) },
				func() (any, error) { return b.r.AddRecipient(ctx, api.NewRecipient{Key: "hunter2", Name: "x"}) },
				func() (any, error) { return b.r.Ports(ctx) },
				func() (any, error) { return b.r.Backup(ctx, api.NewBackup{Recipients: []string{"hunter2"}}) },
				func() (any, error) {
					return b.r.Backup(ctx, api.NewBackup{Recipients: []string{owner.Recipient().String()}})
				},
				func() (any, error) { return b.r.Restore(ctx, api.Restore{Data: stolen}) },
				func() (any, error) { return b.r.Restore(ctx, api.Restore{Data: stolen[:len(stolen)-1]}) },
				func() (any, error) { return b.r.Restore(ctx, api.Restore{Data: []byte("hunter2")}) },
			} {
				v, err := ask()
				data, _ := json.Marshal(v)
				seen.Write(data)
				if err != nil {
					seen.WriteString(err.Error())
				}
			}
		}
		b.mustSet("account", first)
		b.mustSet("spare", "hunter2-spare")
		b.mustSet("logs", "hunter2-logs")
		b.mustSet("chat", "/hunter2-chat")
		b.mustSet("mail", "hunter2-mail")
		p, err := b.apply(named + sending)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(p)
		seen.Write(data)
		answers()
		if _, err := b.r.RotateSecret(ctx, "account", value(second)); err != nil {
			t.Fatal(err)
		}
		answers()
		b.stop()
		b.boot() // with what is on disk
		answers()
		b.stop()

		hidden := func(where string, data []byte) {
			for _, form := range []string{plant, base64.StdEncoding.EncodeToString([]byte("tls://9.9.9.9#")), "68756e74657232"} {
				if bytes.Contains(data, []byte(form)) {
					t.Errorf("%s holds %s", where, form)
				}
			}
		}
		hidden("what was said", seen.Bytes())
		found := map[string]bool{} // in each file that is meant to hold one
		for _, u := range []svcconf.User{svcconf.Dnsd, svcconf.Exportd} {
			found[filepath.Join(b.run, u.Name, svcconf.ConfigFile)] = false
		}
		for _, dir := range []string{b.run, b.state} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				if _, mine := found[path]; mine {
					found[path] = bytes.Contains(data, []byte(plant))
					if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o640 {
						t.Errorf("%s: %v, %v", path, info.Mode(), err)
					}
					return nil
				}
				hidden(path, data)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for path, ok := range found {
			if !ok {
				t.Errorf("%s should hold a value and does not: this test looks at nothing", path)
			}
		}
	})
}
