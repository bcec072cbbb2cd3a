package fat_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/fat"
)

// layouts are mkfs.vfat's arguments for small volumes.
var layouts = map[string][]string{
	"FAT16":               {"-F", "16", "-s", "4", "16384"},
	"FAT32":               {"-F", "32", "-s", "1", "40960"},
	"FAT16, 2 KiB sector": {"-F", "16", "-S", "2048", "-s", "1", "16384"},
}

func tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
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

func open(t testing.TB, path string) *fat.Volume {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := fat.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWhatMtoolsWroteIsRead fills volumes until files lie in pieces.
func TestWhatMtoolsWroteIsRead(t *testing.T) {
	for name, args := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			image := filepath.Join(dir, "image")
			tool(t, "mkfs.vfat", slices.Concat(args[:len(args)-1], []string{"-C", image, args[len(args)-1]})...)
			tool(t, "mmd", "-i", image, "::/loader", "::/loader/entries")
			random := rand.New(rand.NewPCG(1, 2))
			want := map[string][]byte{}
			put := func(path string, size int) {
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(random.Uint32())
				}
				file := filepath.Join(dir, "content")
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				tool(t, "mcopy", "-o", "-i", image, file, "::"+path)
				want[path] = data
			}
			put("/vmlinuz", 3_000_001)
			for i := range 20 {
				put(fmt.Sprintf("/loader/filler %d with a name that is long.txt", i), 5000)
			}
			for i := range 10 {
				path := fmt.Sprintf("/loader/filler %d with a name that is long.txt", 2*i)
				tool(t, "mdel", "-i", image, "::"+path)
				delete(want, path)
			}
			put("/EFI.img", 200_000) // through the holes
			put("/cmdline.txt", 123)
			put("/empty", 0)
			put("/loader/entries/b+0-1.conf", 512)

			v := open(t, image)
			for path, data := range want {
				got, err := v.ReadFile(path, 1<<22)
				if err != nil {
					t.Error(err)
				} else if !bytes.Equal(got, data) {
					t.Errorf("%s: got %x, want %x", path, sha256.Sum256(got), sha256.Sum256(data))
				}
			}
			entries, err := v.ReadDir("/loader/entries")
			if err != nil || len(entries) != 1 || entries[0].Long == 0 {
				t.Errorf("entries: got %+v, %v", entries, err)
			}
			if _, err := v.Lookup("/loader/none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("no file: got %v", err)
			}
			if _, err := v.Lookup("/vmlinuz/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("below a file: got %v", err)
			}
			if _, err := v.ReadFile("/vmlinuz", 1000); err == nil {
				t.Error("a file above the limit was read")
			}
		})
	}
}

func TestNamesAreRewrittenInPlace(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "mkfs.vfat", "-F", "16", "-s", "4", "-C", image, "16384")
	file := filepath.Join(t.TempDir(), "b.conf")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "mcopy", "-i", image, file, "::/b.conf")
	for _, name := range []string{"b+0.conf", "b+1.conf", "b+0-1.conf", "b.conf", "thirteen.conf"} {
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := open(t, image).ReadDir("/")
		if err != nil || len(entries) != 1 {
			t.Fatalf("got %v, %v", entries, err)
		}
		if !fat.PutLong(data[entries[0].Long:][:32], name) {
			t.Fatalf("%s does not fit", name)
		}
		if err := os.WriteFile(image, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := tool(t, "mtype", "-i", image, "::/"+name); string(got) != "text" {
			t.Errorf("mtools reads %q in %s", got, name)
		}
		tool(t, "fsck.vfat", "-n", image)
	}
	if fat.PutLong(make([]byte, 32), "x") {
		t.Error("a name was put where none was")
	}
}

// TestDamageIsNoticed has chains that end too early or lead nowhere.
func TestDamageIsNoticed(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "mkfs.vfat", "-F", "16", "-s", "4", "-C", image, "16384")
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "mcopy", "-i", image, file, "::/x")
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	table := 4 * 512 // mkfs.vfat reserves one cluster
	for name, link := range map[string][]byte{"free": {0, 0}, "end": {0xff, 0xff}, "far": {0xf0, 0xff}} {
		bad := bytes.Clone(data)
		copy(bad[table+2*3:], link) // the file's second cluster
		v, err := fat.Open(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.ReadFile("/x", 1<<20); !errors.Is(err, fat.ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzVolume lays bytes over those parts of a sound volume that lead somewhere: the
// boot sector, the table and the directories.
func FuzzVolume(f *testing.F) {
	type volume struct {
		data  []byte
		parts [3]int
	}
	var volumes []volume
	for _, name := range []string{"FAT16", "FAT32"} {
		args := layouts[name]
		image := filepath.Join(f.TempDir(), "image")
		tool(f, "mkfs.vfat", slices.Concat(args[:len(args)-1], []string{"-C", image, args[len(args)-1]})...)
		file := filepath.Join(f.TempDir(), "cmdline.txt")
		if err := os.WriteFile(file, make([]byte, 3000), 0o600); err != nil {
			f.Fatal(err)
		}
		tool(f, "mmd", "-i", image, "::/loader")
		tool(f, "mcopy", "-i", image, file, "::/cmdline.txt")
		tool(f, "mcopy", "-i", image, file, "::/loader/a long name for a file.txt")
		data, err := os.ReadFile(image)
		if err != nil {
			f.Fatal(err)
		}
		table := int(binary.LittleEndian.Uint16(data[14:])) * 512
		volumes = append(volumes, volume{data, [3]int{0, table, bytes.Index(data, []byte("LOADER  "))}})
		f.Add(uint8(len(volumes)-1), []byte{1, 8, 0, 0xff, 2, 28, 0, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, patches []byte) {
		c := volumes[int(which)%len(volumes)]
		changed := map[int64]byte{}
		for p := range slices.Chunk(patches, 4) { // part, place in it, value
			if len(p) == 4 {
				changed[int64(c.parts[p[0]%3])+int64(p[1])+int64(p[2])<<8] = p[3]
			}
		}
		v, err := fat.Open(patched{bytes.NewReader(c.data), changed}, int64(len(c.data)))
		if err != nil {
			return
		}
		for _, dir := range []string{"/", "/loader"} {
			entries, err := v.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, e := range entries[:min(len(entries), 100)] {
				_, _ = v.ReadFile(dir+"/"+e.Name, 1<<20)
			}
		}
	})
}

// patched reads some bytes otherwise than they are.
type patched struct {
	io.ReaderAt
	changed map[int64]byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	for at, c := range p.changed {
		if i := at - off; i >= 0 && i < int64(n) {
			b[i] = c
		}
	}
	return n, err
}

func TestShortNamesAreReadAsWritten(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "mkfs.vfat", "-F", "16", "-s", "4", "-C", image, "16384")
	dir := t.TempDir()
	var got []string
	for _, name := range []string{"VMLINUZ", "lower.txt", "UPPER.TXT", "Mixed.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "mcopy", "-i", image, filepath.Join(dir, name), "::/")
	}
	entries, err := open(t, image).ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name)
	}
	if diff := cmp.Diff([]string{"VMLINUZ", "lower.txt", "UPPER.TXT", "Mixed.txt"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
