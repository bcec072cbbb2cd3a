package manifest_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/manifest"
)

var sample = manifest.Manifest{
	Format: 1, Arch: "amd64", Version: "2026.11.27-abcdef0", Built: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC),
	Cmdline: "console=tty0 ro init=/gokrazy/init panic=10",
	Kernel:  manifest.Part{Size: 9_000_000, SHA256: strings.Repeat("0a", 32), Version: "6.12.117"},
	Root:    manifest.Part{Size: 30_000_000, SHA256: strings.Repeat("0b", 32)},
}

func TestManifestsAreReadToTheLetter(t *testing.T) {
	data, err := sample.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := manifest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	replace := func(old, new string) string {
		s := strings.Replace(string(data), old, new, 1)
		if s == string(data) {
			t.Fatalf("no %q in the sample", old)
		}
		return s
	}
	for what, text := range map[string]string{
		"empty":           "",
		"unknown field":   replace(`"format"`, `"x": 1, "format"`),
		"something after": string(data) + "{}",
		"format":          replace(`"format": 1`, `"format": 2`),
		"arch":            replace("amd64", "i386"),
		"version":         replace("2026.11.27-abcdef0", `1\n2`),
		"time":            replace("2026-11-27T", "1970-01-01T"),
		"command line":    replace("init=", `\u0000`),
		"two lines":       replace("ro init", `ro\nlinux init`),
		"long line":       replace("init=", strings.Repeat("x", 400)),
		"hash":            replace("0a0a", "zz0a"),
		"short hash":      replace("0a0a", "0a"),
		"size":            replace("9000000", "0"),
		"negative":        replace("9000000", "-1"),
		"huge":            replace("9000000", "9000000000000"),
		"large":           replace(`"format"`, strings.Repeat(" ", manifest.MaxBytes)+`"format"`),
	} {
		if _, err := manifest.Parse([]byte(text)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func key(t *testing.T, b byte) manifest.PrivateKey {
	t.Helper()
	k, err := manifest.NewPrivateKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOnlyTrustedKeysCount(t *testing.T) {
	data := []byte("manifest")
	own, other, foreign := key(t, 1), key(t, 2), key(t, 3)
	trusted := []manifest.PublicKey{own.Public(), other.Public()}
	forged := own.SignImage(data)
	forged.Key = other.Public().ID()
	asChange := own.SignKeys(manifest.KeyChange{Key: own.Public()})
	for _, c := range []struct {
		what string
		sigs []manifest.Signature
		want error
	}{
		{"none", nil, manifest.ErrUnsigned},
		{"own", []manifest.Signature{own.SignImage(data)}, nil},
		{"unknown", []manifest.Signature{foreign.SignImage(data)}, manifest.ErrUnknownKey},
		{"unknown and own", []manifest.Signature{foreign.SignImage(data), own.SignImage(data)}, nil},
		{"bad and good", []manifest.Signature{forged, own.SignImage(data)}, nil},
		{"under another name", []manifest.Signature{forged}, manifest.ErrSignature},
		{"for other bytes", []manifest.Signature{own.SignImage([]byte("Manifest"))}, manifest.ErrSignature},
		{"for another purpose", []manifest.Signature{asChange}, manifest.ErrSignature},
		{"empty", []manifest.Signature{{Key: own.Public().ID()}}, manifest.ErrSignature},
	} {
		if _, err := manifest.VerifyImage(data, c.sigs, trusted); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
	}
}

func TestKeyChangesCountOnce(t *testing.T) {
	own := key(t, 1)
	trusted := []manifest.PublicKey{own.Public()}
	c := manifest.KeyChange{Nonce: "n1", Key: key(t, 2).Public(), Name: "laptop"}
	sig := own.SignKeys(c)
	if err := manifest.VerifyKeys(c, sig, trusted); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*manifest.KeyChange){
		"later": func(c *manifest.KeyChange) { c.Nonce = "n2" }, "remove": func(c *manifest.KeyChange) { c.Remove = true },
		"another key": func(c *manifest.KeyChange) { c.Key = key(t, 3).Public() }, "another name": func(c *manifest.KeyChange) { c.Name = "x" },
	} {
		d := c
		change(&d)
		if err := manifest.VerifyKeys(d, sig, trusted); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestKeysAreWrittenInOneWord(t *testing.T) {
	k := key(t, 7)
	back, err := manifest.ParsePrivateKey(k.Secret())
	if err != nil || back.Public().String() != k.Public().String() {
		t.Errorf("got %v, %v", back.Public(), err)
	}
	data, err := json.Marshal(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	var pub manifest.PublicKey
	if err := json.Unmarshal(data, &pub); err != nil || string(data) != `"`+k.Public().String()+`"` || pub.ID() != k.Public().ID() || len(pub.ID()) != 16 {
		t.Errorf("got %v, %v", pub, err)
	}
	for _, bad := range []string{"", "ed25519:", "ed25519:AAAA", strings.TrimPrefix(k.Public().String(), "ed25519:"), k.Public().String() + "="} {
		if _, err := manifest.ParsePublicKey(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := manifest.ParsePrivateKey("bulkhead-signing-key-ed25519:secret"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestKernelsSayWhatTheyAreFor(t *testing.T) {
	for _, c := range []struct {
		machine uint16
		want    string
	}{{0x8664, "amd64"}, {0xaa64, "arm64"}, {0x14c, ""}} {
		if got, err := manifest.KernelArch(bytes.NewReader(pe(c.machine))); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%#x: got %q, %v", c.machine, got, err)
		}
	}
	far := pe(0x8664)
	binary.LittleEndian.PutUint32(far[60:], 0xffffffff)
	for what, data := range map[string][]byte{"empty": nil, "text": []byte(strings.Repeat("MZ", 100)), "far": far} {
		if _, err := manifest.KernelArch(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: taken for a kernel", what)
		}
	}
	if got := manifest.KernelVersion(bytes.NewReader(pe(0x8664))); got != "6.12.117" {
		t.Errorf("version: got %q", got)
	}
	if got := manifest.KernelVersion(bytes.NewReader(nil)); got != "" {
		t.Errorf("version of nothing: got %q", got)
	}
}

// pe returns the head of a kernel.
func pe(machine uint16) []byte {
	b := make([]byte, 0x400)
	copy(b, "MZ")
	b[60] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x84:], machine)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], "6.12.117 (debian@build) #1 SMP")
	return b
}

func TestRootsAreWhole(t *testing.T) {
	b := make([]byte, 96)
	copy(b, "hsqs")
	b[28], b[40] = 4, 96
	if err := manifest.CheckRoot(bytes.NewReader(b), 96); err != nil {
		t.Error(err)
	}
	if err := manifest.CheckRoot(bytes.NewReader(b), 95); err == nil {
		t.Error("half a root was taken")
	}
	if err := manifest.CheckRoot(bytes.NewReader(b[:20]), 20); err == nil {
		t.Error("too little for a root was taken")
	}
}

func FuzzParse(f *testing.F) {
	data, err := sample.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse(data)
		if err != nil {
			return
		}
		if _, err := m.Bytes(); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
