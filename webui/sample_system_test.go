//go:build linux

package webui_test

import (
	"context"
	"errors"
	"os"
	"time"

	"bulkhead/netcfg/api"
)

// sampleImage and sampleBill are what the sample's image says of itself.
const (
	sampleImage = `{"version": "2026.11.20-3f9c2ab", "built": "2026-11-20T08:12:00Z", "arch": "amd64", "git": "3f9c2ab41d", "kernel": "6.12.57"}`
	sampleBill  = `{"sbom_hash": "77ab", "sbom": {
	"Programs": [
		{"Path": "/user/netcfgd", "Package": "bulkhead/cmd/netcfgd", "Go": "go1.26.1", "Modules": [
			{"Path": "github.com/google/nftables", "Version": "v0.3.0", "Sum": "h1:x"}, {"Path": "golang.org/x/sys", "Version": "v0.39.0", "Sum": "h1:y"}]},
		{"Path": "/user/webuid", "Package": "bulkhead/cmd/webuid", "Go": "go1.26.1", "Modules": [
			{"Path": "<b>evil</b>", "Version": "v1", "Sum": "h1:z"}, {"Path": "golang.org/x/sys", "Version": "v0.39.0", "Sum": "h1:y"}]}],
	"Kernel": {"Version": "6.12.57", "Source": "linux-6.12.57.tar.xz", "Compiler": "gcc 12.2.0"},
	"Debian": [{"Name": "e2fsprogs", "Version": "1.47.0-2"}]}}`
)

// sampleSystem writes what is on the disk of the sample.
func (b *box) sampleSystem() {
	b.t.Helper()
	for path, text := range map[string]string{b.o.Image: sampleImage, b.o.Bill: sampleBill} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (sample) Secrets(context.Context) (*api.Secrets, error) {
	ago := func(days int) time.Time { return time.Now().Add(-time.Duration(days)*24*time.Hour - time.Minute) }
	return &api.Secrets{
		Secrets: []api.Secret{
			{Name: "history-push", Set: ago(30), By: "alex", Uses: []string{"system.history.push.key"}},
			{Name: "mail", Set: ago(700), Rotated: ago(401), By: "alex", Old: true, Uses: []string{"alerts[0].password"}},
			{Name: "pppoe", Missing: true, Uses: []string{"internet.pppoe.password"}},
			{Name: "spare", Set: ago(2), By: "kim"},
		},
		Recipients: []api.Recipient{{ID: "1", Key: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Name: "alex’s safe", Added: ago(30), By: "alex"}},
	}, nil
}

// Backup is one that there is no room for all in, to whose keys "age1big" is added.
func (sample) Backup(_ context.Context, in api.NewBackup) (*api.Backup, error) {
	b := &api.Backup{Box: "gw", Time: time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC), Data: []byte("age-encryption.org/v1"), To: []string{"alex’s safe"}}
	for _, key := range in.Recipients {
		switch key {
		case "age1big":
			b.LeftOut = []string{"changes 1 to 4 of the history"}
		default:
			return nil, api.BadSecret(errors.New("that is no public key of age or SSH"))
		}
	}
	return b, nil
}
