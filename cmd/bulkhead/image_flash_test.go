package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/images/flash"
	"bulkhead/services/update/disk"
)

// newImage makes an image file, and a file that stands for a disk.
func newImage(t *testing.T) (*flash.Image, flash.Target) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(disk.ImageBytes); err != nil {
		t.Fatal(err)
	}
	if err := disk.Create(f, disk.ImageTable(1)); err != nil {
		t.Fatal(err)
	}
	image, err := flash.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	target := flash.Target{Path: filepath.Join(dir, "sdb"), Name: "sdb", Model: "Cruzer Blade", Serial: "4C53", Bytes: disk.DiskBytes, Removable: true}
	if err := os.WriteFile(target.Path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(target.Path, target.Bytes); err != nil {
		t.Fatal(err)
	}
	return image, target
}

func TestFlashWritesOnlyWhenTheNameIsTyped(t *testing.T) {
	for answer, want := range map[string]bool{"": false, "y\n": false, "sda\n": false, "sdb1\n": false, "sdb\n": true} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			image, target := newImage(t)
			var out, errOut bytes.Buffer
			a := &app{in: strings.NewReader(answer), out: &out, err: &errOut, now: func() time.Time { return today }}
			err := a.flash(t.Context(), image, target)
			if (err == nil) != want {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(errOut.String(), "sdb: Cruzer Blade, 0.7 GB, serial number 4C53\n") {
				t.Errorf("the disk is not described:\n%s", errOut.String())
			}
			head := make([]byte, 3)
			f, err := os.Open(target.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.ReadAt(head, 0); err != nil {
				t.Fatal(err)
			}
			if untouched := string(head) == "old"; untouched == want {
				t.Errorf("untouched: %v\n%s", untouched, errOut.String())
			}
			if want && !strings.Contains(errOut.String(), "reading back: 673.2 MB") {
				t.Errorf("it was not read back:\n%s", errOut.String())
			}
		})
	}
}

func TestFlashRefusesWhatIsNoDisk(t *testing.T) {
	image, target := newImage(t)
	path := filepath.Join(filepath.Dir(target.Path), "image")
	image.Close()
	var out, errOut bytes.Buffer
	a := &app{in: strings.NewReader("sdb\n"), out: &out, err: &errOut, now: time.Now}
	if code := a.run(t.Context(), []string{"image", "flash", path, target.Path}); code == 0 || !strings.Contains(errOut.String(), "not a disk") {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
	errOut.Reset()
	if code := a.run(t.Context(), []string{"image", "flash", target.Path, target.Path}); code == 0 || !strings.Contains(errOut.String(), "not an image to flash") {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
}
