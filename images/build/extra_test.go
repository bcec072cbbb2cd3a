package build_test

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/images/build"
)

// instance makes one with a single program, which is quick to build.
func instance(t *testing.T, c build.PackageConfig) string {
	t.Helper()
	dir := t.TempDir()
	in, err := build.ReadInstance("../bulkhead")
	if err != nil {
		t.Fatal(err)
	}
	in.Packages = []string{"bulkhead/cmd/dnsd"}
	in.PackageConfig = map[string]build.PackageConfig{"bulkhead/cmd/dnsd": c}
	data, err := json.Marshal(in)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeTar(t *testing.T, path string, entries ...tar.Header) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		err := w.WriteHeader(&h)
		if err == nil && h.Typeflag == tar.TypeReg {
			_, err = w.Write([]byte(h.Name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestPackageConfigIsHonoured builds one program in the place of another, too.
func TestPackageConfigIsHonoured(t *testing.T) {
	dir := instance(t, build.PackageConfig{
		GoBuildFlags: []string{"-gcflags=all=-l"}, GoBuildTags: []string{"extra"},
		CommandLineFlags: []string{"-run", `/run/"x`}, Environment: []string{"KEY=some value"},
		ExtraFileContents: map[string]string{"/etc/dnsd/greeting": "hello\n"},
		ExtraFilePaths:    map[string]string{"/usr/share/files": "files", "/usr/share/archive": "archive", "/etc/single": "files/tool"},
	})
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "files/tool"), []byte("run me"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeTar(t, filepath.Join(dir, "archive_amd64.tar"),
		tar.Header{Typeflag: tar.TypeReg, Name: "deep/amd64", Mode: 0o4600},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/perm/elsewhere"})
	writeTar(t, filepath.Join(dir, "archive.tar"), tar.Header{Typeflag: tar.TypeReg, Name: "any", Mode: 0o600})
	r := buildImage(t, build.Options{Kernel: toyKernel(t), Instance: dir, Replace: map[string]string{"bulkhead/cmd/dnsd": "bulkhead/cmd/dhcpd"}})
	root, list := unpack(t, r)
	for name, want := range map[string]string{
		"etc/dnsd/greeting": "hello\n", "usr/share/files/tool": "run me", "etc/single": "run me", "usr/share/archive/deep/amd64": "deep/amd64",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "usr/share/archive/link")); to != "/perm/elsewhere" || err != nil {
		t.Errorf("link leads to %q, %v", to, err)
	}
	for line := range strings.Lines(list) {
		for name, mode := range map[string]string{"/files/tool\n": "-rwxr-xr-x", "/deep/amd64\n": "-rw-r--r--"} {
			if strings.HasSuffix(line, name) && !strings.HasPrefix(line, mode) {
				t.Errorf("want mode %s: %s", mode, line)
			}
		}
	}
	bi, err := buildinfo.ReadFile(filepath.Join(root, "user/dnsd"))
	if err != nil {
		t.Fatal(err)
	}
	if bi.Path != "bulkhead/cmd/dhcpd" {
		t.Errorf("dnsd is %s, want what takes its place", bi.Path)
	}
	settings := map[string]string{}
	for _, s := range bi.Settings {
		settings[s.Key] = s.Value
	}
	if settings["-tags"] != "gokrazy,netgo,osusergo,extra" || settings["-gcflags"] != "all=-l" || settings["CGO_ENABLED"] != "0" {
		t.Errorf("built with %v", settings)
	}
	init, err := os.ReadFile(filepath.Join(root, "gokrazy/init"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/user/dnsd", `/run/"x`, "KEY=some value"} {
		if !bytes.Contains(init, []byte(want)) {
			t.Errorf("init does not know of %s", want)
		}
	}
}

func TestExtraFilesThatAreRefused(t *testing.T) {
	tests := []struct {
		name    string
		c       build.PackageConfig
		prepare func(dir string)
		want    string
	}{
		{"in place of ours", build.PackageConfig{ExtraFileContents: map[string]string{"/etc/hosts": ""}}, nil, "file exists"},
		{"in place of a program", build.PackageConfig{ExtraFileContents: map[string]string{"/user/dnsd": ""}}, nil, "in the place of the program"},
		{"password", build.PackageConfig{ExtraFileContents: map[string]string{"/etc/gokr-pw.txt": "x"}}, nil, "gokr-pw.txt"},
		{"outside of the root", build.PackageConfig{ExtraFileContents: map[string]string{"/var/x": ""}}, nil, "escapes"},
		{"not there", build.PackageConfig{ExtraFilePaths: map[string]string{"/x": "nothing"}}, nil, "no such file"},
		{"out of the archive", build.PackageConfig{ExtraFilePaths: map[string]string{"/x": "a"}}, func(dir string) {
			writeTar(t, filepath.Join(dir, "a.tar"), tar.Header{Typeflag: tar.TypeReg, Name: "../../../y"})
		}, "leads out of the archive"},
		{"through a link", build.PackageConfig{ExtraFilePaths: map[string]string{"/x": "a"}}, func(dir string) {
			writeTar(t, filepath.Join(dir, "a.tar"), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: dir}, tar.Header{Typeflag: tar.TypeReg, Name: "l/y"})
		}, "escapes"},
		{"device", build.PackageConfig{ExtraFilePaths: map[string]string{"/x": "a"}}, func(dir string) {
			writeTar(t, filepath.Join(dir, "a.tar"), tar.Header{Typeflag: tar.TypeChar, Name: "null"})
		}, "only files"},
	}
	needTools(t)
	k := toyKernel(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := instance(t, tt.c)
			if tt.prepare != nil {
				tt.prepare(dir)
			}
			_, err := build.Build(t.Context(), build.Options{Arch: "amd64", Tree: "../..", Out: t.TempDir(), Kernel: k, Revision: revision, Instance: dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
