package oui_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/oui"
)

// build makes a list of a few makers, with an address that has a comma and a line break.
func build(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	head := "Registry,Assignment,Organization Name,Organization Address\n"
	for name, rows := range map[string]string{
		"oui.csv": `MA-L,001122,"Acme Widgets Co., Ltd.","1 Road, Town
US"
MA-L,AABBCC,IEEE Registration Authority,Piscataway
MA-L,FFEEDD,"Bébé ""Toys"" GmbH",Bonn
MA-L,00AA00,Inc.,somewhere
`,
		"mam.csv":   "MA-M,AABBCC5,Middle Things Inc.,there\n",
		"oui36.csv": "MA-S,AABBCC5EF,Small Things LLC,there\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(head+rows), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := oui.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMakersAreFound(t *testing.T) {
	l, err := oui.New(bytes.NewReader(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	for mac, want := range map[string]string{
		"00:11:22:00:00:00": "Acme Widgets", "00:11:22:ff:ff:ff": "Acme Widgets", "00:11:21:00:00:00": "",
		"aa:bb:cc:00:00:01": "IEEE Registration Authority", "aa:bb:cc:5f:00:01": "Middle Things", "aa:bb:cc:5e:f0:01": "Small Things", "aa:bb:cc:5e:e0:01": "Middle Things",
		"ff:ee:dd:00:00:01": `B?b? "Toys"`, "00:aa:00:00:00:00": "Inc", "ff:ff:ff:ff:ff:ff": "", "00:00:00:00:00:00": "",
	} {
		m, err := model.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Vendor(m); got != want {
			t.Errorf("%s: got %q, want %q", mac, got, want)
		}
	}
	if got := (*oui.List)(nil).Vendor(model.MAC{}); got != "" {
		t.Errorf("no list says %q", got)
	}
}

func TestWithoutSourcesThereIsNoList(t *testing.T) {
	if _, err := oui.Build(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := oui.Open(filepath.Join(t.TempDir(), "oui.bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestDebiansListsAreUnderstood takes the real ones where they are.
func TestDebiansListsAreUnderstood(t *testing.T) {
	const dir = "/usr/share/ieee-data"
	data, err := oui.Build(dir)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("ieee-data is not installed: .ci/deps image")
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "oui.bin")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := oui.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Vendor(model.MAC{0xb8, 0x27, 0xeb, 1, 2, 3}); got != "Raspberry Pi Foundation" {
		t.Errorf("b8:27:eb is %q", got)
	}
	t.Logf("%d bytes", len(data))
}

// FuzzList holds that a damaged file says little and breaks nothing.
func FuzzList(f *testing.F) {
	f.Add(build(f), []byte{0xaa, 0xbb, 0xcc, 0x5e, 0xf0, 1})
	f.Fuzz(func(t *testing.T, data, mac []byte) {
		l, err := oui.New(bytes.NewReader(data))
		if err != nil || len(mac) != 6 {
			return
		}
		if s := l.Vendor(model.MAC(mac)); len(s) > 64 {
			t.Errorf("%q", s)
		}
	})
}
