//go:build linux

package update_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/update/api"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/gaf/gaftest"
)

// gok speaks to a box as gokrazy's tool does: the same requests, and the same
// comparison of hashes afterwards.
type gok struct {
	b        *box
	password string
	crc      bool
}

// do makes a request and returns the status and the body.
func (g gok) do(method, path string, body io.Reader, header ...string) (int, string) {
	g.b.t.Helper()
	req, err := http.NewRequestWithContext(g.b.t.Context(), method, "http://updated/gokrazy/"+path, body)
	if err != nil {
		g.b.t.Fatal(err)
	}
	req.SetBasicAuth("gokrazy", g.password)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := g.b.http.Do(req)
	if err != nil {
		g.b.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		g.b.t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

// streamTo sends a part and compares the hash that comes back.
func (g gok) streamTo(part string, data []byte) error {
	var sum hash.Hash = sha256.New()
	var header []string
	if g.crc {
		sum, header = crc32.NewIEEE(), []string{"X-Gokrazy-Update-Hash", "crc32"}
	}
	sum.Write(data)
	status, body := g.do("PUT", "update/"+part, io.MultiReader(bytes.NewReader(data)), header...) // of a length that is not known
	if status != http.StatusOK {
		return fmt.Errorf("%d: %s", status, strings.TrimSpace(body))
	}
	if got, err := hex.DecodeString(body); err != nil || !bytes.Equal(got, sum.Sum(nil)) {
		return fmt.Errorf("hash %q, want %x", body, sum.Sum(nil))
	}
	return nil
}

func (g gok) post(path string) error {
	if status, body := g.do("POST", path, nil); status != http.StatusOK {
		return fmt.Errorf("%d: %s", status, strings.TrimSpace(body))
	}
	return nil
}

// bootImage returns the boot image of an archive that gok made.
func bootImage(t *testing.T, arch, version string) []byte {
	t.Helper()
	a, err := gaf.Open(gaftest.New(t, arch, version, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r, err := a.Part(gaf.BootFile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const password = "correct horse battery"

// withGokrazy turns the protocol on.
func withGokrazy(t *testing.T) (*box, gok) {
	t.Helper()
	b := newBox(t)
	if err := b.client.SetGokrazyPassword(t.Context(), api.Password{Password: password}); err != nil {
		t.Fatal(err)
	}
	b.configure(svcconf.Update{Gokrazy: true})
	return b, gok{b: b, password: password, crc: true}
}

// configure does what netcfgd does.
func (b *box) configure(c svcconf.Update) {
	b.t.Helper()
	path := b.dirs.Config(svcconf.Updated.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(path, data)
}

func TestGokUpdatesAreTriedAndKept(t *testing.T) {
	b, g := withGokrazy(t)
	for n, way := range []string{"switch", "testboot"} {
		version := fmt.Sprint(n + 2)
		g.crc = n == 0
		if status, body := g.do("GET", "update/features", nil); status != http.StatusOK || body != "partuuid,updatehash,gpt," {
			t.Errorf("features: %d %q", status, body)
		}
		for _, part := range []struct {
			name string
			data []byte
		}{{"root", append(rootOf(version), make([]byte, 1000)...)}, {"boot", bootImage(t, "amd64", version)}, {"mbr", make([]byte, 446)}} {
			if err := g.streamTo(part.name, part.data); err != nil {
				t.Fatalf("%s: %v", part.name, err)
			}
		}
		if err := g.post("update/" + way); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if err := g.post("reboot"); err != nil {
			t.Fatal(err)
		}
		if got := b.restart(); got != version {
			t.Fatalf("version %s runs after %s, want %s", got, way, version)
		}
		st := b.status(func(s api.Status) bool { return !s.Trial && s.Last != nil })
		if st.Last.Outcome != api.Kept || st.Last.Author != "gokrazy" || !strings.HasPrefix(st.Last.Version, "gok-") {
			t.Errorf("got %+v", st.Last)
		}
	}
}

func TestGokUpdatesOfTheKernelAlone(t *testing.T) {
	b, g := withGokrazy(t)
	// A kernel with the root that runs: the test's box wants both to be of one version.
	if err := g.streamTo("bootonly", bootImage(t, "amd64", "1")); err != nil {
		t.Fatal(err)
	}
	if err := g.post("reboot"); err != nil {
		t.Fatal(err)
	}
	if got := b.restart(); got != "1" || b.slot.String() != "b" {
		t.Errorf("version %s runs in slot %s", got, b.slot)
	}
	b.status(func(s api.Status) bool { return s.Last != nil && s.Last.Outcome == api.Kept })
}

func TestGokUpdatesAreChecked(t *testing.T) {
	b, g := withGokrazy(t)
	half := bootImage(t, "amd64", "2")
	for _, c := range []struct {
		name, part string
		data       []byte
		says       string
	}{
		{"not a squashfs", "root", make([]byte, 1000), "not a squashfs"},
		{"half a root", "root", rootOf("2")[:1000], "cut short"},
		{"a root that is too large", "root", make([]byte, rootRoom+1), "than the slot takes"},
		{"half a boot image", "boot", half[:len(half)/2], "FAT"},
		{"no boot image", "boot", make([]byte, 1000), "FAT"},
		{"another machine", "boot", bootImage(t, "arm64", "2"), "arm64"},
		{"a large boot record", "mbr", make([]byte, 1<<17), "boot record"},
	} {
		if err := g.streamTo(c.part, c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want something with %q", c.name, err, c.says)
		}
	}
	if err := g.post("update/switch"); err == nil {
		t.Error("switched to nothing")
	}
	if err := g.streamTo("root", rootOf("2")); err != nil {
		t.Error(err)
	}
	if err := g.post("update/switch"); err == nil {
		t.Error("switched to a root without a kernel")
	}
	b.off()
	if got := b.turnOn(); got != "1" {
		t.Errorf("version %s runs", got)
	}
}

func TestGokNeedsTheSwitchAndThePassword(t *testing.T) {
	b, g := withGokrazy(t)
	status := func(g gok) int {
		s, _ := g.do("GET", "update/features", nil)
		return s
	}
	g.password = "correct horse batterx"
	if got := status(g); got != http.StatusUnauthorized {
		t.Errorf("wrong password: got %d", got)
	}
	g.password = password
	if got := status(g); got != http.StatusTooManyRequests {
		t.Errorf("right after a wrong one: got %d", got)
	}
	b.off() // forgets who has to wait
	b.turnOn()
	if got := status(g); got != http.StatusOK {
		t.Errorf("right password: got %d", got)
	}
	g.password = "x"
	if got := status(g); got != http.StatusUnauthorized {
		t.Errorf("wrong again: got %d", got)
	}
	g.password = password
	if got := status(g); got != http.StatusOK {
		t.Errorf("who was let in is kept out by somebody's guesses: got %d", got)
	}
	b.configure(svcconf.Update{})
	if got := status(g); got != http.StatusNotFound {
		t.Errorf("off: got %d", got)
	}
	if err := b.client.SetGokrazyPassword(t.Context(), api.Password{Password: "short"}); err == nil {
		t.Error("a short password was taken")
	}
	if strings.Contains(string(b.read(filepath.Join(b.dirs.StateDir("updated"), "state.json"))), password) {
		t.Error("the password is kept as it is")
	}
}
