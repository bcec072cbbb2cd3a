package conf_test

import (
	"archive/zip"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/conf"
)

// TestTimeZonesAreThoseOfGo compares the list of names, which is there for hints, with
// the database of the Go that runs the test, and rewrites it with -update.
func TestTimeZonesAreThoseOfGo(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	db, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib/time/zoneinfo.zip"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this Go comes without a time zone database")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var names []string
	for _, f := range db.File {
		if !strings.HasSuffix(f.Name, "/") {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	want := strings.Join(names, "\n") + "\n"
	if *update {
		if err := os.WriteFile("timezones.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("timezones.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("timezones.txt differs; run with -update (-want +got):\n%s", diff)
	}
	for _, name := range names {
		src := "system: {timezone: " + name + "}\n"
		_, list := conf.Parse("f", []byte(src), now)
		for _, p := range list {
			if p.Key == "system.timezone" {
				t.Errorf("a hint may name what is refused: %v", p)
			}
		}
	}
}

func TestUTF16IsRefusedWithAPlace(t *testing.T) {
	_, list := conf.Parse("f.yaml", []byte("\xff\xfes\x00y\x00"), now)
	want := "f.yaml:1:1: file is UTF-16 text\n\thint: save it as UTF-8\n"
	if diff := cmp.Diff(want, printed(list)); diff != "" {
		t.Errorf("problems differ (-want +got):\n%s", diff)
	}
}
