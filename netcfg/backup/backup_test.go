package backup_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func sample() *backup.Backup {
	return &backup.Backup{
		Manifest: backup.Manifest{
			Time: noon, Box: "gw", File: "home.yaml", LeftOut: []string{"3 changes"},
			Ports: []backup.Port{{Name: "eth0", MAC: model.MAC{0x52, 0x54, 0, 0x10, 0, 1}}},
		},
		Config:  []byte("system: {name: gw}  # ours\n"),
		Secrets: []byte(`{"secrets": []}`),
		Devices: map[string]netip.Addr{"tv": netip.MustParseAddr("192.168.40.130")},
		Leases: []svcconf.Lease{{
			Zone: "iot", Address: netip.MustParseAddr("192.168.40.131"), MAC: model.MAC{2, 0, 0, 0, 0, 1}, Granted: noon, Expires: noon.Add(time.Hour),
		}},
		Keys:     []backup.UpdateKey{{Name: "alex@desk", Key: "bulkhead-key-1:AAAA"}},
		Isolated: []byte("[]"),
		History:  []backup.Change{{Number: 7, Data: []byte(`{"number":7}`)}, {Number: 8, Data: []byte(`{"number":8}`)}},
	}
}

func encoded(t testing.TB, b *backup.Backup) []byte {
	t.Helper()
	data, err := backup.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// written are fields that are made when a backup is encoded.
var written = cmpopts.IgnoreFields(backup.Manifest{}, "Format", "Version", "Sums")

var addresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestWhatWasBackedUpComesBack(t *testing.T) {
	for name, b := range map[string]*backup.Backup{"all": sample(), "nothing": {Manifest: backup.Manifest{Time: noon, Box: "gw"}}} {
		data := encoded(t, b)
		got, err := backup.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(b, got, written, addresses); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", name, diff)
		}
		if !bytes.Equal(encoded(t, got), data) {
			t.Errorf("%s: the same backup has two forms", name)
		}
	}
}

// TestOwnerReadsABackupWithOrdinaryTools holds the archive to what tar(1) expects.
func TestOwnerReadsABackupWithOrdinaryTools(t *testing.T) {
	r := tar.NewReader(bytes.NewReader(encoded(t, sample())))
	var names []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := []string{"manifest.json", "config.yaml", "secrets.json", "devices.json", "leases.json", "update-keys.json", "isolated.json", "history/000007.json", "history/000008.json"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

// TestEveryDamageIsNoticed flips each bit that matters, and cuts the archive anywhere.
func TestEveryDamageIsNoticed(t *testing.T) {
	data := encoded(t, sample())
	want, err := backup.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		got, err := backup.Decode(damaged)
		switch {
		case err == nil && !cmp.Equal(want.Sums, got.Sums):
			t.Errorf("byte %d: other files are taken", i)
		case err != nil && !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNewer):
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for n := range data {
		if _, err := backup.Decode(data[:n]); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("the first %d bytes of %d: got %v", n, len(data), err)
		}
	}
}

func TestNewerBackups(t *testing.T) {
	data := encoded(t, sample())
	newer := bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 2`), 1)
	if _, err := backup.Decode(newer); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("a newer version: got %v", err)
	}
	// One more file, which can be done without.
	const old, other = "devices.json", "prefixs.json"
	if n := bytes.Count(data, []byte(old)); n != 2 {
		t.Fatalf("%s is there %d times", old, n)
	}
	b, err := backup.Decode(rename(t, data, old, other))
	if err != nil || len(b.Others) != 1 || b.Others[0] != other || b.Devices != nil || len(b.Leases) != 1 {
		t.Errorf("a file that is not known: got %+v, %v", b, err)
	}
}

// rename gives a file of an archive another name of the same length.
func rename(t *testing.T, data []byte, from, to string) []byte {
	t.Helper()
	var out bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(data)), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		h.Name = strings.ReplaceAll(h.Name, from, to)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.ReplaceAll(text, []byte(from), []byte(to))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestArchiveIsBounded(t *testing.T) {
	b := sample()
	b.Config = make([]byte, backup.MaxArchive)
	if _, err := backup.Encode(b); err == nil {
		t.Error("an archive was made that is too large to be read")
	}
	if _, err := backup.Decode(make([]byte, backup.MaxArchive+1)); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// FuzzDecode holds what is taken to have one form: it can be backed up again.
func FuzzDecode(f *testing.F) {
	data := encoded(f, sample())
	f.Add(data)
	f.Add(data[:1024])
	f.Add(encoded(f, &backup.Backup{}))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := backup.Decode(data)
		if err != nil || len(b.Others) > 0 {
			return
		}
		again, err := backup.Decode(encoded(t, b))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, again, written, addresses, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("it came back as another (-first +second):\n%s", diff)
		}
	})
}
