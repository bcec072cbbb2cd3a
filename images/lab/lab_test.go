//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"bulkhead/images/lab"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// world is where the tests of this package run; nil without BULKHEAD_NEED_ROOT.
var world *lab.World

// shared is one lab for all tests that use the same file; nil until the first one
// needs it.
var (
	shared     *lab.Lab
	sharedFile string
)

// TestMain moves the tests that need namespaces into a world of their own, so that
// they can leave nothing behind. They are for make test-root only: a lab is no unit
// test, and the race detector would only slow the packets down.
func TestMain(m *testing.M) {
	if os.Getenv("BULKHEAD_NEED_ROOT") != "" {
		var err error
		if world, err = lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	lab.InnerWorld = world
	code := m.Run()
	if shared != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const example = "../../configs/zero-trust.yaml"

// start returns the shared lab. Beside the clients of make lab there is a neighbour
// in each zone whose name begins with "evil-".
func start(t testing.TB, file string) *lab.Lab {
	t.Helper()
	if world == nil {
		t.Skip("needs namespaces: run make test-root")
	}
	if shared != nil && sharedFile == file {
		return shared
	}
	if shared != nil {
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
		shared = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, world, lab.Options{File: file, Bin: programs(t)})
	if err != nil {
		t.Fatal(err)
	}
	shared, sharedFile = l, file
	for _, z := range l.Config.Zones {
		if _, err := l.AddClient("evil-"+z.Name, z, addr(z, 66)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// addr returns the n-th address of a zone.
func addr(z *model.Zone, n byte) netip.Addr {
	b := z.Subnet.Addr().As4()
	b[3] += n
	return netip.AddrFrom4(b)
}

// programs is where the daemons are.
func programs(t testing.TB) string { return lab.Programs(t, world) }

// bench is what a test of packets needs: the lab, a prober and the policy in force.
type bench struct {
	*lab.Lab
	*lab.Prober
	policy *policy.Policy
	ctx    context.Context
	acks   int // of the uplink's DHCP server, when a daemon was killed
}

func setUp(t testing.TB) *bench { return setUpWith(t, example) }

func setUpWith(t testing.TB, file string) *bench {
	t.Helper()
	l := start(t, file)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	p, err := l.NewProber(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	pol, err := l.Policy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Lab: l, Prober: p, policy: pol, ctx: ctx}
}

// ask puts questions, fails the test for each answer that is wrong, and returns the
// answers.
func (b *bench) ask(t testing.TB, questions []lab.Question) []lab.Answer {
	t.Helper()
	if len(questions) == 0 {
		t.Fatal("no questions")
	}
	answers, err := b.Ask(b.ctx, questions)
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for _, a := range answers {
		if !a.Wrong() {
			continue
		}
		if wrong++; wrong <= 20 {
			t.Error(a)
		}
	}
	if wrong > 20 {
		t.Errorf("and %d more", wrong-20)
	}
	return answers
}
