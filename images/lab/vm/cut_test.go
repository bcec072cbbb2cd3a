//go:build linux

package vm_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/txn"
)

var seedFlag = flag.Uint64("seed", 0, "cut the power at the instants of an earlier run; 0: at others each time")

// cutter is the lab, and two configurations between which it is changed.
type cutter struct {
	*lab.Lab
	*rand.Rand
	t     *testing.T
	files [2]api.File
	now   int           // which of them is confirmed
	count int           // number of the last change
	took  time.Duration // until a change is in force
}

// newCutter makes one change in peace, to see how long that takes.
func newCutter(t *testing.T, seed uint64) *cutter {
	c := &cutter{Lab: startLab(t), t: t, Rand: rand.New(rand.NewPCG(seed, 0))}
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	c.files[0] = api.File{Name: "example.yaml", Data: data}
	changed := strings.NewReplacer(
		"    from: players\n    to: nextcloud\n", "    from: guest\n    to: nextcloud\n", // what was allowed to one is to another
		"\ndevices:\n", "\n  workshop: {port: trunk, vlan: 60, subnet: 192.168.60.0/24}\n\ndevices:\n",
		"    to: [services, storage, iot, guest]\n    protocols: [ssh, https, ping]\n", "    to: [services, storage, iot, guest, workshop]\n    protocols: [ssh, ping]\n",
		"block: [tracking.example]", "block: [tracking.example, telemetry.example]",
		"{from: guest, to: [management, services, storage, iot], protocols: any, expect: deny}", "{from: guest, to: [management, storage, iot], protocols: any, expect: deny}",
	).Replace(string(data))
	c.files[1] = api.File{Name: "changed.yaml", Data: []byte(changed)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.keep(ctx, 0)
	began := time.Now()
	trial, err := c.API.Apply(ctx, api.Change{File: c.files[1], Why: "in peace"})
	if err != nil {
		t.Fatal(err)
	}
	c.took = time.Since(began)
	if _, err := c.API.Confirm(ctx, api.Confirm{Token: trial.Token}); err != nil {
		t.Fatal(err)
	}
	c.now = 1
	s, err := c.API.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.count = s.Confirmed.Number
	return c
}

// author is who makes the changes.
func (c *cutter) author() *lab.Client {
	return c.Clients[slices.IndexFunc(c.Clients, func(cl *lab.Client) bool { return cl.Zone.Admin })]
}

// keep brings one of the files into force.
func (c *cutter) keep(ctx context.Context, n int) {
	c.t.Helper()
	if err := c.Apply(ctx, c.files[n], "a power cut"); err != nil {
		c.t.Fatal(err)
	}
	c.now = n
}

// instants are when the power is cut: at a random time after the change has been asked
// for, is in force, or its author has canceled or confirmed it.
var instants = []struct {
	name   string
	then   string // what its author does with it, once it is in force
	within func(took time.Duration) time.Duration
}{
	{"before it is staged, or just after", "", func(took time.Duration) time.Duration { return took / 4 }},
	{"while it is put into force", "", func(took time.Duration) time.Duration { return took }},
	{"while it is pending", "wait", func(time.Duration) time.Duration { return 2 * time.Second }},
	{"while it is undone", "cancel", func(took time.Duration) time.Duration { return took }},
	{"while it is confirmed", "confirm", func(took time.Duration) time.Duration { return took / 2 }},
}

// fate is what the author of a change knows of it when the power is cut.
type fate struct{ inForce, canceling, confirming, confirmed bool }

// cut makes a change and cuts the power at some instant of it. It returns when the box
// is back.
func (c *cutter) cut(ctx context.Context, n int) {
	i := instants[n]
	token := fmt.Sprintf("%016x%016x", c.Uint64(), c.Uint64())
	var f fate
	asked := make(chan struct{}) // closed when the time begins to run
	author, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	box := c.API
	wg.Go(func() {
		if i.then == "" {
			close(asked)
		}
		_, err := box.Apply(author, api.Change{File: c.files[1-c.now], Why: i.name, Terms: api.Terms{Token: token}})
		f.inForce = err == nil
		if i.then != "" {
			defer close(asked)
		}
		if err != nil {
			if i.then != "" {
				c.t.Errorf("%s: apply: %v", i.name, err)
			}
			return
		}
		switch i.then {
		case "cancel":
			f.canceling = true
			wg.Go(func() { _, _ = box.Cancel(author, api.Cancel{}) }) // answered or not
		case "confirm":
			f.confirming = true
			wg.Go(func() {
				_, err := box.Confirm(author, api.Confirm{Token: token})
				f.confirmed = err == nil
			})
		}
	})
	<-asked
	delay := time.Duration(c.Int64N(int64(i.within(c.took))))
	time.Sleep(delay) // the instant is what is random
	if err := c.Box.Kill(); err != nil {
		c.t.Fatal(err)
	}
	stop()
	wg.Wait()
	// What is left of the author's connections would knock at the box that comes back,
	// which counts that as refused.
	if _, err := c.author().Output("ss", "-K", "-t"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Reboot(ctx); err != nil {
		c.t.Fatalf("%s, after %v: %v", i.name, delay, err)
	}
	c.back(ctx, fmt.Sprintf("%s, after %v, %+v", i.name, delay.Round(time.Millisecond), f), txn.IDOf(token), f)
}

// back makes sure that the box that has come back has one of the two configurations,
// wholly, and says why.
func (c *cutter) back(ctx context.Context, name, id string, f fate) {
	t := c.t
	t.Helper()
	var s *api.Status
	for {
		var err error
		if s, err = c.API.Status(ctx); err != nil {
			t.Fatal(err)
		}
		if s.Mode == api.Running && s.Applied {
			break
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Fatalf("%s: the box is %+v", name, s)
		}
		time.Sleep(100 * time.Millisecond) // looking is all one can do
	}
	mine := s.Last != nil && s.Last.ID == id
	isNew := mine && s.Last.End == api.EndConfirmed
	switch {
	case isNew && !f.confirming, !isNew && f.confirmed:
		t.Errorf("%s: the last change ended as %+v", name, s.Last)
	case isNew:
		c.now, c.count = 1-c.now, c.count+1
	case f.inForce && !(mine && (s.Last.End == api.EndInterrupted || f.canceling && s.Last.End == api.EndCanceled)):
		t.Errorf("%s: it is said to have ended as %+v", name, s.Last)
	}
	file := c.files[c.now]
	trials, err := c.API.Pending(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest != fmt.Sprintf("%x", sha256.Sum256(file.Data)) || s.Confirmed.Number != c.count || trials.Pending != nil || len(s.Damage) > 0 {
		t.Errorf("%s: want %s in force as change %d and nothing pending, got %+v, pending %+v", name, file.Name, c.count, s, trials.Pending)
	}
	if diff := cmp.Diff(s.Last, trials.Last); diff != "" {
		t.Errorf("%s: the status and what is pending tell of the last change (-status +pending):\n%s", name, diff)
	}
	entry, err := c.API.Entry(ctx, c.count)
	if err != nil || string(entry.Data) != string(file.Data) {
		t.Errorf("%s: the newest of the history is not the file: %v", name, err)
	}
	c.said(name, isNew, s)
	c.whole(ctx, name)
	t.Logf("%s: %s is confirmed, number %d; the last change: %+v", name, file.Name, c.count, s.Last)
}

// said makes sure that the box tells its owner.
func (c *cutter) said(name string, isNew bool, s *api.Status) {
	c.t.Helper()
	cli := func(args ...string) string {
		out, err := c.author().Output("env",
			append([]string{"XDG_CONFIG_HOME=" + lab.Home, "XDG_RUNTIME_DIR=", filepath.Join(world.Dir, "bin", "bulkhead"), "--box", "lab"}, args...)...)
		if err != nil {
			c.t.Errorf("%s: bulkhead %s: %v", name, strings.Join(args, " "), err)
		}
		return out
	}
	want := "number " + strconv.Itoa(c.count)
	shown := cli("show")
	if o := s.Last; !isNew && o != nil && o.End == api.EndInterrupted {
		want = "netcfgd ended, or the power was cut"
	}
	if !strings.Contains(shown, want) {
		c.t.Errorf("%s: bulkhead show does not say %q:\n%s", name, want, shown)
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(cli("history")), "\n"); first == "" {
		c.t.Errorf("%s: bulkhead history says nothing", name)
	}
}

// whole makes sure that links, addresses and rules are those of the confirmed file: by
// what the box says, and by packets.
func (c *cutter) whole(ctx context.Context, name string) {
	t := c.t
	t.Helper()
	if err := c.Adopt(c.files[c.now]); err != nil {
		t.Fatal(err)
	}
	zones, err := c.API.Zones(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, want := make(map[string]string), make(map[string]string)
	for _, z := range zones {
		got[z.Name] = fmt.Sprintf("%s at %s", z.Link, z.Gateway)
	}
	for _, z := range c.Config.Zones {
		want[z.Name] = fmt.Sprintf("%s.%d at %s", z.Port.Name, z.VLAN, z.Gateway)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: zones differ (-want +got):\n%s", name, diff)
	}
	p, err := c.Policy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Matrix(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range m.Wrong {
		t.Errorf("%s: %s", name, a)
	}
	if m.Packets == 0 {
		t.Errorf("%s: no packets were tried", name)
	}
}

// TestPowerIsCutDuringAChange cuts the power at random instants of a change. The box
// comes back with the configuration from before, or with the new one if its author
// confirmed it, never with a mix of the two, and says what became of the change.
// BULKHEAD_KILLS says how many times.
func TestPowerIsCutDuringAChange(t *testing.T) {
	if world == nil {
		t.Skip("takes minutes: run make test-vm")
	}
	cuts := 2
	if n, err := strconv.Atoi(os.Getenv("BULKHEAD_KILLS")); err == nil {
		cuts = n
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("cut at the same instants again with -seed %d", seed)
	c := newCutter(t, seed)
	t.Logf("a change is in force after %v", c.took.Round(time.Millisecond))
	var order []int
	for n := range cuts {
		if len(order) == 0 {
			order = c.Perm(len(instants))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		began := time.Now()
		c.cut(ctx, order[0])
		cancel()
		order = order[1:]
		t.Logf("cut %d took %v", n+1, time.Since(began).Round(time.Second))
		if t.Failed() {
			break
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.keep(ctx, 0) // what the other tests count on
}
