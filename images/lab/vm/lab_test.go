//go:build linux

package vm_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/images/build"
	"bulkhead/images/lab"
	"bulkhead/netcfg/policy"
)

// The tests in this file's neighbours use the lab whose gateway is the image, of which
// there is one for all, in a world of its own; both are nil until they are needed.
var (
	world  *lab.World
	shared *lab.Lab
)

// TestMain moves the tests into a world of their own, so that they can leave nothing
// behind, neither machines nor links. Without BULKHEAD_NEED_VM, those that take a
// minute are skipped.
func TestMain(m *testing.M) {
	if os.Getenv("BULKHEAD_NEED_VM") != "" {
		var err error
		if world, err = lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if shared != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const example = "../../../configs/zero-trust.yaml"

// image builds the image, and the program that a workstation has.
func image(t testing.TB) (disk, bin string) {
	t.Helper()
	bin = filepath.Join(world.Dir, "bin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "bulkhead/cmd/bulkhead")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := build.Build(t.Context(), build.Options{Arch: goarch(), Tree: "../../..", Out: filepath.Join(world.Dir, "out"), Kernel: findKernel(t).Dir})
	if err != nil {
		t.Fatal(err)
	}
	return r.Image, bin
}

// boxBench is what a test of packets needs whose gateway is the image.
type boxBench struct {
	*lab.Lab
	*lab.BoxProber
	policy *policy.Policy
	ctx    context.Context
}

func setUp(t testing.TB) *boxBench {
	t.Helper()
	if world == nil {
		t.Skip("takes a minute: run make test-vm")
	}
	l := startLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	p, err := l.NewBoxProber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	pol, err := l.Policy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &boxBench{l, p, pol, ctx}
}

// startLab returns the lab, whose box has the 256 MB that are to be enough.
func startLab(t testing.TB) *lab.Lab {
	t.Helper()
	if shared != nil {
		return shared
	}
	disk, bin := image(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l, err := lab.StartVM(ctx, world, lab.VMOptions{Arch: goarch(), File: example, Bin: bin, Image: disk, Memory: 256, Printer: &lab.Printer{W: os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	shared = l
	return l
}

// flowOf is a flow from a client to an address.
func flowOf(c *lab.Client, dst netip.Addr) policy.Flow {
	return policy.Flow{From: c.Zone.Name, MAC: c.MAC, Src: c.Addr, Dst: dst}
}
