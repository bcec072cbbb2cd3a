//go:build linux

package updates_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/images/build"
	"bulkhead/images/kernel"
	"bulkhead/images/lab/vm"
	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/auth/access"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
	"bulkhead/webui/remote"
)

// work is where the images are that all tests share.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "updates"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(work)
	os.Exit(code)
}

// lack skips the test, or fails it where BULKHEAD_NEED_VM says that all is there.
func lack(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("BULKHEAD_NEED_VM") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// slow is how many times longer everything may take than where each of two machines has a
// processor of this computer's for itself. BULKHEAD_SLOW says so.
var slow = func() time.Duration {
	n, err := strconv.Atoi(os.Getenv("BULKHEAD_SLOW"))
	if err != nil || n < 1 {
		return 1
	}
	return time.Duration(n)
}()

var (
	patience = slow * 5 * time.Minute  // for anything, in emulation
	trial    = slow * 45 * time.Second // that images of these tests have to prove themselves
)

// images are what the tests start from and update to.
type images struct {
	one, two, deaf build.Result
	init           string // squashfs whose init ends or hangs
}

// theImages returns them, which are built once.
func theImages(t *testing.T) images {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "needs root, for a network namespace")
	}
	if err := vm.Lacks(runtime.GOARCH); err != nil {
		lack(t, "no machine can be made: %v", err)
	}
	all, err := built()
	if errors.Is(err, fs.ErrNotExist) {
		lack(t, "run make kernel, or set KERNEL_CACHE: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return all
}

var built = sync.OnceValues(func() (all images, err error) {
	arch, err := kernel.ArchByName(runtime.GOARCH)
	if err != nil {
		return all, err
	}
	options, err := kernel.FromEnvironment(arch)
	if err != nil {
		return all, err
	}
	ctx := context.Background()
	k, err := kernel.Lookup(ctx, options)
	if err != nil {
		return all, err
	}
	instance, err := instance()
	if err != nil {
		return all, err
	}
	for version, image := range map[string]struct {
		to      *build.Result
		replace map[string]string
	}{"1": {&all.one, nil}, "2": {&all.two, nil}, "3": {&all.deaf, map[string]string{"bulkhead/cmd/dnsd": "bulkhead/images/lab/updates/deaf"}}} {
		o := build.Options{
			Arch: arch.Name, Tree: "../../..", Out: filepath.Join(work, version), Kernel: k.Dir, Instance: instance, Replace: image.replace,
			Revision: build.Revision{Version: version, Time: builtAt(version)},
		}
		if *image.to, err = build.Build(ctx, o); err != nil {
			return all, err
		}
	}
	all.init, err = badRoot(ctx)
	return all, err
})

// builtAt is when a version was built: the higher, the later.
func builtAt(version string) time.Time {
	return time.Date(2026, 1, int(version[0]-'0'), 0, 0, 0, 0, time.UTC)
}

// instance returns the product's instance with a shorter trial, and with a program that
// fills the disk when it is told to.
func instance() (string, error) {
	data, err := os.ReadFile("../../bulkhead/config.json")
	if err != nil {
		return "", err
	}
	var in map[string]any
	if err := json.Unmarshal(data, &in); err != nil {
		return "", err
	}
	in["Packages"] = append(in["Packages"].([]any), "bulkhead/images/lab/updates/hoard")
	config := in["PackageConfig"].(map[string]any)
	updated, _ := config["bulkhead/cmd/updated"].(map[string]any)
	if updated == nil {
		updated = map[string]any{}
	}
	updated["CommandLineFlags"] = []string{"-trial", trial.String()}
	config["bulkhead/cmd/updated"] = updated
	if data, err = json.Marshal(in); err != nil {
		return "", err
	}
	return work, os.WriteFile(filepath.Join(work, "config.json"), data, 0o644)
}

// badRoot makes a root file system with nothing but an init that is no good.
func badRoot(ctx context.Context) (string, error) {
	tree := filepath.Join(work, "tree")
	for _, d := range []string{"dev", "proc", "gokrazy"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			return "", err
		}
	}
	root := filepath.Join(work, "root.img")
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-o", filepath.Join(tree, "gokrazy/init"), "./hang"},
		{"mksquashfs", tree, root, "-noappend", "-all-root", "-quiet", "-comp", "gzip"},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	return root, nil
}

// The box's addresses, cards and configuration.
const (
	address = "192.168.77.1"
	config  = `system: {name: gw}
ports:
  lan: {mac: "52:54:00:10:00:01"}
  iot: {mac: "52:54:00:10:00:02"}
zones:
  management: {port: lan, subnet: 192.168.77.0/24, admin: true}
  iot: {port: iot, subnet: 192.168.40.0/21}
`
)

var cards = []model.MAC{{0x52, 0x54, 0, 0x10, 0, 1}, {0x52, 0x54, 0, 0x10, 0, 2}}

// box is a virtual box, and the workstation that has claimed it.
type box struct {
	t       *testing.T
	o       vm.Options
	m       *vm.Machine
	key     manifest.PrivateKey
	ns      int // network namespace of the workstation: all boxes begin with the same address
	client  *remote.Client
	updated *updates.Client
	station *station
}

// newBox claims a new box and gives it its configuration.
func newBox(t *testing.T, r build.Result) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, ns: nstest.New(t), o: vm.Options{Arch: runtime.GOARCH, Dir: dir, Disk: filepath.Join(dir, "disk")}, station: newStation()}
	if err := vm.NewDisk(t.Context(), b.o.Disk, r.Image, disk.DiskBytes+16*disk.MiB); err != nil {
		t.Fatal(err)
	}
	b.network()
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	var err error
	if b.key, err = manifest.NewPrivateKey(seed[:]); err != nil {
		t.Fatal(err)
	}
	b.on()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console's last lines:\n%s", b.m.Tail(60))
		}
		b.cut()
	})
	b.claim()
	return b
}

// network lays cables: lan to an interface of ours, iot to the station.
func (b *box) network() {
	t := b.t
	t.Helper()
	lan, iot := vswitch.New(), vswitch.New()
	t.Cleanup(func() { _, _ = lan.Close(), iot.Close() })
	port := func(s *vswitch.Switch, name string) *vswitch.Port {
		p, err := s.AddPort(name, vswitch.Access(1))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var tap vswitch.Link
	var err error
	nstest.Run(t, b.ns, func() { tap, err = vswitch.OpenTAP("lan") })
	if err != nil {
		t.Fatal(err)
	}
	port(lan, "workstation").Plug(tap)
	port(iot, "station").Plug(b.station)
	nstest.Exec(t, b.ns, "ip", "address", "add", "192.168.77.2/24", "dev", "lan")
	nstest.Exec(t, b.ns, "ip", "link", "set", "lan", "up")
	for i, p := range []*vswitch.Port{port(lan, "box"), port(iot, "box")} {
		name := []string{"lan", "iot"}[i]
		b.o.NICs = append(b.o.NICs, vm.NIC{Name: name, MAC: cards[i], Plug: func(c io.ReadWriteCloser) { p.Plug(vswitch.NewStream(c)) }})
	}
}

// on switches the box on.
func (b *box) on() {
	b.t.Helper()
	var err error
	if b.m, err = vm.Start(b.t.Context(), b.o); err != nil {
		b.t.Fatal(err)
	}
}

// cut cuts the power.
func (b *box) cut() {
	b.t.Helper()
	if err := b.m.Kill(); err != nil {
		b.t.Error(err)
	}
}

// dial opens a connection from the workstation.
func (b *box) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: nothing else may run in there
		if err = unix.Setns(b.ns, unix.CLONE_NEWNET); err == nil {
			c, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		}
	}()
	<-done
	return c, err
}

// codeOnScreen matches the claim code, which stands in a line of its own; parts of the
// fingerprint look like it.
var codeOnScreen = regexp.MustCompile(`H {5}([0-9A-Z]{4}(?:-[0-9A-Z]{4}){3})[^-0-9A-Z]`)

func (b *box) claim() {
	t := b.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.m.Await(ctx, regexp.MustCompile(address)); err != nil {
		t.Fatal(err)
	}
	found, err := b.m.Await(ctx, codeOnScreen)
	if err != nil {
		t.Fatal(err)
	}
	code, err := access.ParseCode(found[1])
	if err != nil {
		t.Fatal(err)
	}
	var c *remote.Claim
	b.until(ctx, "the box answers", func() error { c, err = remote.LookVia(ctx, "https://"+address, b.dial); return err })
	p, err := c.Redeem(ctx, code, "test", b.key.Public())
	if err != nil || p.KeyError != "" {
		t.Fatalf("claim: %+v, %v", p, err)
	}
	b.client = remote.NewVia(p.Profile, b.dial)
	b.updated = &updates.Client{Caller: b.client}
	change := api.Change{File: api.File{Name: "home.yaml", Data: []byte(config)}, Why: "test"}
	if _, err := api.Keep(ctx, b.client, change); err != nil {
		t.Fatal(err)
	}
}

// until waits for f to return nil.
func (b *box) until(ctx context.Context, what string, f func() error) {
	b.t.Helper()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: not before the end: %v", what, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// settled waits until the box runs and nothing is on trial, and returns its status.
func (b *box) settled(what string, more func(updates.Status) bool) updates.Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	var st updates.Status
	b.until(ctx, what, func() error {
		look, end := context.WithTimeout(ctx, 15*time.Second)
		defer end()
		var err error
		if st, err = b.updated.Status(look); err != nil {
			return err
		}
		if st.Trial || !more(st) {
			return fmt.Errorf("status %+v, last %+v", st, st.Last)
		}
		return nil
	})
	return st
}

// image is what is pushed.
type image struct {
	m            manifest.Manifest
	kernel, root func() (io.Reader, error)
	sigs         []manifest.Signature
	data         []byte
}

// image takes an image out of an archive, and lets f change it before it is signed.
func (b *box) image(r build.Result, f func(*image)) image {
	t := b.t
	t.Helper()
	a, err := gaf.Open(r.Archive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	var i image
	if i.m, err = a.Describe(""); err != nil {
		t.Fatal(err)
	}
	i.kernel = func() (io.Reader, error) { r, _, err := a.Kernel(); return r, err }
	i.root = func() (io.Reader, error) { r, _, err := a.Root(); return r, err }
	if f != nil {
		f(&i)
	}
	if i.data, err = i.m.Bytes(); err != nil {
		t.Fatal(err)
	}
	i.sigs = []manifest.Signature{b.key.SignImage(i.data)}
	return i
}

// push sends an image and has the box restart into it.
func (b *box) push(ctx context.Context, i image) error {
	if err := b.updated.Begin(ctx, updates.Begin{Manifest: i.data, Signatures: i.sigs, AllowDowngrade: true}); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		open func() (io.Reader, error)
		size int64
	}{{"kernel", i.kernel, i.m.Kernel.Size}, {"root", i.root, i.m.Root.Size}} {
		r, err := part.open()
		if err != nil {
			return err
		}
		if err := b.updated.Put(ctx, part.name, r, part.size, nil); err != nil {
			return err
		}
	}
	return b.updated.Commit(ctx)
}

// kept fails the test unless the configuration and the leases are what they were.
func (b *box) kept(lease string) {
	t := b.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var st *api.Status
	b.until(ctx, "netcfgd runs", func() (err error) {
		if st, err = b.client.Status(ctx); err == nil && st.Mode != api.Running {
			err = fmt.Errorf("it is %s: %s", st.Mode, st.Reason)
		}
		return err
	})
	if st.Confirmed == nil || st.Confirmed.Number != 1 {
		t.Errorf("configuration %+v is in force", st.Confirmed)
	}
	leases, err := b.client.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(leases, func(l svcLease) bool { return l.Address.String() == lease }) {
		t.Errorf("the lease of %s is gone: %+v", lease, leases)
	}
}

// died reports whether an update was undone that had no chance to say why.
func died(o *updates.Outcome) bool {
	return o != nil && o.Outcome == updates.Undone && strings.Contains(o.Why, "did not get to its health check")
}
