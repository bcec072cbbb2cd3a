package boot_test

import (
	"bytes"
	"errors"
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

// kernelBytes is the size of the kernel files of the tests.
const kernelBytes = 6 << 10

// kernel is a kernel that is complete, and can be told from others.
func kernel(version string) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%-32s", version)), kernelBytes/32)
}

// cmdline is a command line as long as real ones.
const cmdline = "console=tty0 console=ttyS0,115200 root=PARTUUID=60c24cc1-f3f9-427a-8199-2e18c40c0001/PARTNROFF=1 ro " +
	"init=/gokrazy/init panic=10 oops=panic rootwait"

func tool(t testing.TB, name string, args ...string) []byte {
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

// newESP returns a boot partition as the builder makes it: slot a good, slot b empty.
func newESP(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "esp")
	tool(t, "mkfs.vfat", "-F", "16", "-s", "1", "-C", image, "2560")
	tool(t, "mmd", "-i", image, "::/a", "::/b", "::/loader", "::/loader/entries")
	put := func(path string, data []byte) {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "mcopy", "-i", image, file, "::"+path)
	}
	put("/a/vmlinuz", kernel("1"))
	put("/b/vmlinuz", make([]byte, kernelBytes))
	entry, err := boot.Entry{Slot: boot.A, Serial: 1, Version: "1", Options: cmdline}.Render()
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
	options    string
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
			case "options":
				c.options = value
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

// turnOn is the firmware and the boot loader: it picks an entry, counts the try if
// that is wanted, and returns the version of the kernel that starts. The old name's
// place is used again, as EDK II does with a directory's first hole.
func turnOn(t testing.TB, image []byte) (version string, slot boot.Slot) {
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
	version = strings.TrimSpace(string(data[:32]))
	if !bytes.Equal(data, kernel(version)) {
		t.Fatalf("%s starts half a kernel", c.file.Name)
	}
	return version, boot.Slot(c.linux[1])
}

// errPower says that there is none left.
var errPower = errors.New("power cut")

// disk is a boot partition in memory whose power goes after some sectors.
type disk struct {
	data []byte
	left int // sectors until the power goes; negative: it stays
}

func (d *disk) Size() int64 { return int64(len(d.data)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.left == 0 {
		return 0, errPower
	}
	return bytes.NewReader(d.data).ReadAt(p, off)
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		if d.left == 0 {
			return done, errPower
		}
		d.left--
		at := off + int64(done)
		done += copy(d.data[at:(at/512+1)*512], p[done:])
	}
	return len(p), nil
}

func (d *disk) Sync() error {
	if d.left == 0 {
		return errPower
	}
	return nil
}
