package gaf_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/gaf"
	"bulkhead/services/update/gaf/gaftest"
	"bulkhead/services/update/manifest"
)

func part(data []byte, version string) manifest.Part {
	sum := sha256.Sum256(data)
	return manifest.Part{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Version: version}
}

func TestArchivesOfGokAreDescribed(t *testing.T) {
	path := gaftest.New(t, "amd64", "6.12.1", nil)
	built := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	if err := os.Chtimes(path, built, built); err != nil {
		t.Fatal(err)
	}
	a, err := gaf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	got, err := a.Describe("")
	if err != nil {
		t.Fatal(err)
	}
	want := manifest.Manifest{
		Format: 1, Arch: "amd64", Version: "2026.11.27-0000000", Built: built,
		Cmdline: gaftest.Cmdline[:len(gaftest.Cmdline)-1],
		Kernel:  part(gaftest.Kernel("amd64", "6.12.1"), "6.12.1"),
		Root:    part(gaftest.Root("6.12.1"), ""),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

func TestArchivesOfOursSayWhatTheyAre(t *testing.T) {
	info := `{"version":"2026.11.27-abcdef0","built":"2026-11-27T08:00:00Z","arch":"arm64","git":"abcdef0","kernel":"6.12.117"}`
	path := gaftest.New(t, "arm64", "1", map[string][]byte{manifest.InfoFile: []byte(info)})
	a, err := gaf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m, err := a.Describe("")
	if err != nil || m.Version != "2026.11.27-abcdef0" || m.Arch != "arm64" || m.Kernel.Version != "6.12.117" {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err = a.Describe("mine"); err != nil || m.Version != "mine" {
		t.Errorf("got %+v, %v", m, err)
	}
	lying := gaftest.New(t, "amd64", "1", map[string][]byte{manifest.InfoFile: []byte(info)})
	b, err := gaf.Open(lying)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Describe(""); err == nil {
		t.Error("an archive with a kernel for another machine was described")
	}
}

func TestSigningKeepsTheRest(t *testing.T) {
	path := gaftest.New(t, "amd64", "1", nil)
	key, err := manifest.NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 { // signing again replaces
		a, err := gaf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && len(a.Signatures) != 1 {
			t.Errorf("got signatures %v", a.Signatures)
		}
		m := []byte("manifest")
		if err := a.Sign(m, []manifest.Signature{key.SignImage(m)}); err != nil {
			t.Fatal(err)
		}
		a.Close()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, data) {
			t.Error("signing twice made other bytes")
		}
		first = data
	}
	a, err := gaf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := manifest.VerifyImage(a.Manifest, a.Signatures, []manifest.PublicKey{key.Public()}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		open func() (io.Reader, int64, error)
		want []byte
	}{"kernel": {a.Kernel, gaftest.Kernel("amd64", "1")}, "root": {a.Root, gaftest.Root("1")}} {
		r, size, err := c.open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || size != int64(len(c.want)) || !bytes.Equal(got, c.want) {
			t.Errorf("%s: got %d of %d bytes, %v", name, len(got), size, err)
		}
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	write := func(name string, files map[string]uint16) string {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for file, method := range files {
			part, err := w.CreateHeader(&zip.FileHeader{Name: file, Method: method})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, write("empty", nil), write("compressed", map[string]uint16{"boot.img": zip.Deflate, "root.img": zip.Store}), write("zeros", map[string]uint16{"boot.img": zip.Store, "root.img": zip.Store})} {
		if a, err := gaf.Open(path); err == nil {
			t.Errorf("%s was opened", path)
			a.Close()
		}
	}
}
