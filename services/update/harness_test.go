//go:build linux

package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/run"
	"bulkhead/services/update"
	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/boot/boottest"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/gaf/gaftest"
	"bulkhead/services/update/gate"
	"bulkhead/services/update/manifest"
)

// Room in the slots, in bytes.
const (
	kernelRoom = 64 << 10
	rootRoom   = 1 << 20
)

// kernelOf and rootOf are the parts of a version's image.
func kernelOf(version string) []byte { return gaftest.Kernel("amd64", version) }
func rootOf(version string) []byte   { return gaftest.Root(version) }

// builtAt is when a version was built: the higher, the later.
func builtAt(version string) time.Time {
	var n int
	fmt.Sscan(version, &n)
	return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC)
}

// box is a machine whose disk is files.
type box struct {
	t     *testing.T
	dirs  run.Dirs
	esp   string
	roots map[boot.Slot]string
	look  look
	boots int

	guard  guard
	slot   boot.Slot // that runs
	reboot chan struct{}
	ended  chan struct{} // the box has switched itself off
	off    func()        // ends what runs
	client *api.Client
	http   *http.Client // to the same socket
	log    bytes.Buffer
}

// look is a rest of the box that is well, or not.
type look struct {
	mu  sync.Mutex
	bad string // what is wrong with DNS in zone iot
}

func (l *look) Before(context.Context) gate.Before { return lookAt("").Before }

func (l *look) Look(context.Context) gate.Look {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lookAt(l.bad)
}

func (l *look) Lookup(_ context.Context, zone, name, kind string) (*api.Lookup, error) {
	if name == "" {
		return nil, gate.ErrQuestion
	}
	return &api.Lookup{Question: name + " " + kind, Code: zone, Answers: []api.LookupAnswer{}}, nil
}

// Address knows one name.
func (l *look) Address(_ context.Context, name string) (netip.Addr, error) {
	if name != "tv" {
		return netip.Addr{}, fmt.Errorf("%w: %s is unknown", gate.ErrQuestion, name)
	}
	return netip.MustParseAddr("192.168.40.7"), nil
}

func (l *look) set(bad string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bad = bad
}

func lookAt(bad string) gate.Look {
	return gate.Look{
		Before: gate.Before{Netcfgd: &gate.Netcfgd{Mode: "running", Confirmed: &gate.Confirmed{Number: 7}}, Digest: "abc"},
		Config: &svcconf.Update{DNS: []svcconf.UpdateDNS{{Zone: "iot"}}},
		DNS:    map[string]string{"iot": bad}, Admin: map[netip.Addr]string{},
	}
}

// newBox returns a box with version 1 in slot a, which is turned on.
func newBox(t *testing.T) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, dirs: run.Dirs{Run: filepath.Join(dir, "run"), State: filepath.Join(dir, "perm")},
		esp: filepath.Join(dir, "esp"), roots: map[boot.Slot]string{boot.A: filepath.Join(dir, "a"), boot.B: filepath.Join(dir, "b")}}
	for _, d := range []string{b.dirs.Run, b.dirs.State} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.write(b.esp, boottest.New(t, kernelOf("1"), kernelRoom))
	b.write(b.roots[boot.A], append(rootOf("1"), make([]byte, rootRoom-len(rootOf("1")))...))
	b.write(b.roots[boot.B], make([]byte, rootRoom))
	b.turnOn()
	return b
}

func (b *box) write(path string, data []byte) {
	b.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) read(path string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// bootUp does what firmware and boot loader do, and returns the version that starts: its
// kernel and its root are whole, and belong together.
func (b *box) bootUp() string {
	b.t.Helper()
	image := b.read(b.esp)
	slot, kernel := boottest.TurnOn(b.t, image)
	b.write(b.esp, image)
	root := b.read(b.roots[slot])
	version, _, _ := strings.Cut(string(root[96:]), "\n")
	if want := rootOf(version); !bytes.Equal(root[:len(want)], want) {
		b.t.Fatalf("slot %s starts with half a root of version %s", slot, version)
	}
	if want := kernelOf(version); !bytes.Equal(kernel[:len(want)], want) || strings.Trim(string(kernel[len(want):]), "\x00") != "" {
		b.t.Fatalf("slot %s starts version %s with another kernel", slot, version)
	}
	b.slot = slot
	b.boots++
	return version
}

// updated returns the service as it is in the system that runs.
func (b *box) updated(version string) update.Updater {
	b.t.Helper()
	b.reboot, b.ended = make(chan struct{}), make(chan struct{})
	reboot, ended := b.reboot, b.ended
	id, err := disk.ParseGUID("60c24cc1-f3f9-427a-8199-2e18c40c0001")
	if err != nil {
		b.t.Fatal(err)
	}
	return update.New(slog.New(slog.NewTextHandler(&b.log, nil)), update.Machine{
		Slot: b.slot, ESP: b.esp, Roots: b.roots, Info: manifest.Info{Version: version, Built: builtAt(version), Arch: "amd64"},
		BootID: fmt.Sprint("boot ", b.boots), Disk: id, Reboot: func() { close(reboot) }, Off: func() { close(ended) },
		Init:  filepath.Join(b.dirs.Run, "init.sock"),
		Reset: func() error { return os.RemoveAll(b.dirs.State) },
	}, &b.look, b.dirs)
}

// turnOn starts the box, and its update service, and returns the version that runs.
func (b *box) turnOn() string {
	b.t.Helper()
	version := b.bootUp()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	u := b.updated(version)
	u.Guard(&b.guard)
	go func() { done <- u.Serve(ctx) }()
	b.off = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Errorf("updated: %v", err)
		}
	})
	b.t.Cleanup(b.off)
	socket := filepath.Join(b.dirs.Run, api.SocketFile)
	b.client = api.NewClient(socket)
	b.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	b.status(func(api.Status) bool { return true })
	return version
}

// restart waits until the box restarts itself, and returns the version that runs then.
func (b *box) restart() string {
	b.t.Helper()
	select {
	case <-b.reboot:
	case <-time.After(time.Minute):
		b.t.Fatalf("the box does not restart; it said:\n%s", b.log.String())
	}
	b.off()
	return b.turnOn()
}

// status waits until the status is as wanted.
func (b *box) status(ok func(api.Status) bool) api.Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	for {
		st, err := b.client.Status(ctx)
		if err == nil && ok(st) {
			return st
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("the status stays %+v, %v", st, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// image is what is pushed.
type image struct {
	m            manifest.Manifest
	kernel, root []byte
	sigs         []manifest.Signature
	downgrade    bool
	raw          []byte // the manifest as it is sent, unless it is nil
}

// newImage returns the image of a version.
func newImage(version string) *image {
	i := &image{kernel: kernelOf(version), root: rootOf(version)}
	i.m = manifest.Manifest{Format: 1, Arch: "amd64", Version: version, Built: builtAt(version), Cmdline: strings.TrimSpace(gaftest.Cmdline),
		Kernel: part(i.kernel), Root: part(i.root)}
	return i
}

func part(data []byte) manifest.Part {
	sum := sha256.Sum256(data)
	return manifest.Part{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

func key(t testing.TB, n byte) manifest.PrivateKey {
	t.Helper()
	k, err := manifest.NewPrivateKey(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign signs the image with keys.
func (i *image) sign(t testing.TB, keys ...manifest.PrivateKey) *image {
	t.Helper()
	var err error
	if i.raw, err = json.Marshal(i.m); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		i.sigs = append(i.sigs, k.SignImage(i.raw))
	}
	return i
}

// push sends an image up to the commit.
func (b *box) push(i *image) error {
	ctx := b.t.Context()
	if err := b.client.Begin(ctx, api.Begin{Manifest: i.raw, Signatures: i.sigs, AllowDowngrade: i.downgrade}); err != nil {
		return err
	}
	if err := b.client.Put(ctx, "kernel", bytes.NewReader(i.kernel), int64(len(i.kernel)), nil); err != nil {
		return err
	}
	return b.client.Put(ctx, "root", bytes.NewReader(i.root), int64(len(i.root)), nil)
}

// trust has the box trust a key, the first one.
func (b *box) trust(k manifest.PrivateKey) {
	b.t.Helper()
	if err := b.client.AddKey(b.t.Context(), api.AddKey{Key: k.Public(), Name: "test"}); err != nil {
		b.t.Fatal(err)
	}
}

// update pushes a version and restarts into it.
func (b *box) update(version string) string {
	b.t.Helper()
	if err := b.push(newImage(version).sign(b.t, key(b.t, 1))); err != nil {
		b.t.Fatal(err)
	}
	if err := b.client.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return b.restart()
}
