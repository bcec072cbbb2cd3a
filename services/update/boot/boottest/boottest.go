// Package boottest plays firmware and boot loader for tests: it makes boot partitions as
// the builder does, and starts from them as systemd-boot does.
package boottest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/fat"
)

// Cmdline is a command line as long as real ones.
const Cmdline = "console=tty0 console=ttyS0,115200 root=PARTUUID=60c24cc1-f3f9-427a-8199-2e18c40c0001/PARTNROFF=1 ro " +
	"init=/gokrazy/init panic=10 oops=panic rootwait"

// Tool runs one of Debian's tools, some of which are where an ordinary user's PATH does
// not lead, and returns what it prints.
func Tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if cmd.Err != nil {
		cmd.Path, cmd.Err = filepath.Join("/usr/sbin", name), nil
	}
	if _, err := os.Stat(cmd.Path); err != nil && os.Getenv("BULKHEAD_NEED_ROOT") == "" {
		t.Skipf("needs %s: run make deps", name)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return out
}

// New returns a boot partition as the builder makes it: slot a good, slot b empty. Both
// kernels have room bytes, and a's begins with the given one.
func New(t testing.TB, kernel []byte, room int) []byte {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "esp")
	Tool(t, "mkfs.vfat", "-F", "16", "-s", "1", "-C", image, "2560")
	Tool(t, "mmd", "-i", image, "::/a", "::/b", "::/loader", "::/loader/entries")
	put := func(path string, data []byte) {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		Tool(t, "mcopy", "-i", image, file, "::"+path)
	}
	put("/a/vmlinuz", append(bytes.Clone(kernel), make([]byte, room-len(kernel))...))
	put("/b/vmlinuz", make([]byte, room))
	entry, err := boot.Entry{Slot: boot.A, Serial: 1, Version: "1", Options: Cmdline}.Render()
	if err != nil {
		t.Fatal(err)
	}
	put("/loader/entries/a.conf", entry)
	put("/loader/entries/b+0.conf", bytes.Repeat([]byte{'\n'}, boot.EntryBytes))
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// choice is an entry as the boot loader sees it.
type choice struct {
	file       fat.Entry
	left, done int // -1: not counted
	version    int
	linux      string
}

var counted = regexp.MustCompile(`^(.*?)\+([0-9]+)(?:-([0-9]+))?\.conf$`)

// choose does what systemd-boot does in a directory of entries: read those whose kernel
// is there, sort, take the first. It shares no code with what it tests but the reader.
func choose(t testing.TB, image []byte) choice {
	t.Helper()
	vol, err := fat.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	files, err := vol.ReadDir("/loader/entries")
	if err != nil {
		t.Fatal(err)
	}
	var list []choice
	for _, f := range files {
		c := choice{file: f, left: -1, done: -1}
		if m := counted.FindStringSubmatch(f.Name); m != nil {
			c.left, _ = strconv.Atoi(m[2])
			c.done, _ = strconv.Atoi(m[3])
		}
		text, err := vol.ReadFile("/loader/entries/"+f.Name, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch key {
			case "version":
				c.version, _ = strconv.Atoi(value)
			case "linux":
				c.linux = value
			}
		}
		if c.linux == "" {
			continue
		}
		if _, err := vol.Lookup(c.linux); err != nil {
			continue
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		t.Fatal("there is nothing to boot")
	}
	slices.SortFunc(list, func(a, b choice) int {
		if (a.left == 0) != (b.left == 0) { // without tries left: to the end
			return map[bool]int{true: 1, false: -1}[a.left == 0]
		}
		return b.version - a.version // newest first
	})
	return list[0]
}

// TurnOn picks an entry, counts the try in image if that is wanted, and returns the slot
// that starts and its kernel file. The old name's place is used again, as EDK II does
// with a directory's first hole.
func TurnOn(t testing.TB, image []byte) (boot.Slot, []byte) {
	t.Helper()
	c := choose(t, image)
	if c.left >= 0 {
		base := counted.FindStringSubmatch(c.file.Name)[1]
		next := fmt.Sprintf("%s+%d-%d.conf", base, max(c.left-1, 0), c.done+1)
		if !fat.PutLong(image[c.file.Long:][:32], next) {
			t.Fatalf("no room for %s", next)
		}
	}
	vol, err := fat.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	data, err := vol.ReadFile(c.linux, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return boot.Slot(c.linux[1]), data
}
