// Package gaftest makes small gokrazy archives for tests.
package gaftest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Cmdline is the command line of the archives' kernels, as gok writes it.
const Cmdline = "console=ttyS0,115200 root=PARTUUID=2e18c40c-0000-0000-0000-000000000001/PARTNROFF=1 init=/gokrazy/init rootwait\n"

// Kernel returns bytes that pass for a kernel of an architecture and a version.
func Kernel(arch, version string) []byte {
	b := make([]byte, 40_000)
	copy(b, "MZ")
	b[60] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	machine := map[string]uint16{"amd64": 0x8664, "arm64": 0xaa64}[arch]
	binary.LittleEndian.PutUint16(b[0x84:], machine)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], version+" (debian@build) #1 SMP")
	fill(b[0x400:], version)
	return b
}

// Root returns bytes that pass for a squashfs.
func Root(version string) []byte {
	b := make([]byte, 600_000)
	copy(b, "hsqs")
	b[28] = 4
	binary.LittleEndian.PutUint64(b[40:], uint64(len(b)))
	fill(b[96:], version)
	return b
}

func fill(b []byte, version string) { copy(b, strings.Repeat(version+"\n", len(b)/(len(version)+1))) }

// New writes an archive as gok would and returns its path. Files that more names are
// added to it.
func New(t testing.TB, arch, version string, more map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot.img")
	run(t, "mkfs.vfat", "-F", "16", "-s", "1", "-C", boot, "4096")
	for name, data := range map[string][]byte{"vmlinuz": Kernel(arch, version), "cmdline.txt": []byte(Cmdline)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-i", boot, filepath.Join(dir, name), "::/")
	}
	image, err := os.ReadFile(boot)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	files := []struct {
		name string
		data []byte
	}{{"mbr.img", make([]byte, 512)}, {"boot.img", image}, {"root.img", Root(version)}, {"sbom.json", fmt.Appendf(nil, `{"sbom_hash":"%032x","sbom":{}}`, version)}}
	for name, data := range more {
		files = append(files, struct {
			name string
			data []byte
		}{name, data})
	}
	for _, f := range files {
		part, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, version+".gaf")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a tool of Debian's, some of which are where an ordinary user's PATH does not
// lead.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if cmd.Err != nil {
		cmd.Path, cmd.Err = filepath.Join("/usr/sbin", name), nil
	}
	if _, err := os.Stat(cmd.Path); err != nil && os.Getenv("BULKHEAD_NEED_ROOT") == "" {
		t.Skipf("needs %s: run make deps", name)
	}
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}
