//go:build linux

package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/txn"
)

var seedFlag = flag.Uint64("seed", 0, "make the random changes of an earlier run; 0: others each time")

// spareVLANs are wired for what changes may come up with.
var spareVLANs = []uint16{201, 202, 203}

// fate is what becomes of a change.
type fate int

const (
	forgotten fate = iota // nobody confirms it
	kept
	killed // netcfgd is, meanwhile
	fates
)

func (f fate) String() string { return [...]string{"never confirmed", "confirmed", "killed"}[f] }

// proofs is a lab in which changes are made and everything is watched meanwhile.
type proofs struct {
	*Lab
	t *testing.T
	*auditor
	*mutator
	sentinel *sentinel
	path     *adminPath

	file  []byte         // confirmed
	side  side           // what it means
	doors []door         // that it has
	n     int            // changes so far
	tally map[string]int // of what was done, in all labs
	took  time.Duration  // until a change was in force, the longest so far
}

// startProofs starts a lab in which nobody lives, and the watching of it.
func startProofs(t *testing.T, file string, seed uint64, tally map[string]int) *proofs {
	w := needInner(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := Start(ctx, w, Options{File: file, Bin: Programs(t, w), Spare: spareVLANs, Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &proofs{Lab: l, t: t, tally: tally, file: l.file.Data, took: 20 * time.Millisecond}
	p.mutator = &mutator{Rand: rand.New(rand.NewPCG(seed, 1)), spare: spareVLANs, port: l.Spare[0].Port.Name}
	if p.sentinel, err = newSentinel(l, seed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.sentinel.close)
	if p.auditor, err = newAuditor(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kernel.Close() })
	p.path = &adminPath{s: p.sentinel}
	p.adopt(p.file)
	p.sentinel.between(p.side, p.side)
	for _, d := range p.doors {
		p.open(d, "at the start")
	}
	p.path.hold(p.doors)

	running, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.sentinel.run(running) })
	wg.Go(func() { p.path.run(running) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return p
}

// sideOf is what a file means now.
func (p *proofs) sideOf(data []byte) (side, error) {
	r, err := p.compile(p.t.Context(), data)
	if err != nil {
		return side{}, err
	}
	return side{r.Policy, Services(r.Policy, false)}, nil
}

// adopt makes a file the confirmed one, for those who watch.
func (p *proofs) adopt(data []byte) {
	var err error
	if p.side, err = p.sideOf(data); err != nil {
		p.t.Fatal(err)
	}
	p.file, p.doors = data, p.sentinel.doors(p.side.Config)
}

// open makes sure that a door that may have moved is open, soon.
func (p *proofs) open(d door, when string) {
	p.t.Helper()
	if err := d.settle(); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if err = d.answers(ctx); err == nil {
			return
		}
		_ = pause(ctx)
	}
	p.t.Errorf("%s, %s: %v", when, d, err)
}

// announced returns the doors that a plan says will be closed, for a while or for good.
func (p *proofs) announced(ctx context.Context, f api.File) (doors []door, lockout bool, err error) {
	for _, d := range p.doors {
		plan, err := p.API.Plan(ctx, api.Proposal{File: f, Origin: api.Origin{Address: d.from}})
		if err != nil {
			return nil, false, err
		}
		if plan.Lockout != "" || plan.Path == nil || plan.Path.Moves {
			doors = append(doors, d)
		}
		lockout = lockout || plan.Lockout != "" && d == p.doors[0]
	}
	return doors, lockout, nil
}

// making is a change while it is made.
type making struct {
	file     api.File
	what     string
	token    string
	old, new side
	doors    []door                // that it has
	pins     map[string]netip.Addr // before it
	asked    bool                  // to be confirmed
}

// step makes one random change and lets it have its fate.
func (p *proofs) step(ctx context.Context, f fate) {
	p.t.Helper()
	p.n++
	file := api.File{Name: fmt.Sprintf("change-%d.yaml", p.n)}
	what, unusable := "", p.IntN(8) == 0
	if unusable {
		file.Data, what = p.broken(p.file)
	} else {
		file.Data, what = p.usable(ctx, &file)
	}
	began := time.Now()
	name := fmt.Sprintf("change %d (%s; %s)", p.n, what, f)
	if unusable {
		name = fmt.Sprintf("change %d (%s)", p.n, what)
		p.refused(ctx, file, name)
	} else {
		name += p.try(ctx, f, file, what, name)
	}
	p.check(ctx, name)
	p.t.Logf("%s: %v", name, time.Since(began).Round(time.Millisecond))
}

// usable returns a random change that the box will take.
func (p *proofs) usable(ctx context.Context, file *api.File) (data []byte, what string) {
	for {
		data, what := p.change(p.file)
		if cfg, _ := conf.Parse(file.Name, data, time.Now()); cfg == nil {
			continue
		}
		if _, locked, err := p.announced(ctx, api.File{Name: file.Name, Data: data}); err == nil && !locked {
			return data, what
		} else if _, refused := errors.AsType[*api.Refused](err); err != nil && !refused {
			p.t.Fatal(err)
		}
		p.tally["refused"]++
	}
}

// refused makes sure that a file is.
func (p *proofs) refused(ctx context.Context, file api.File, name string) {
	p.tally["broken"]++
	_, err := p.API.Apply(ctx, api.Change{File: file, Author: "proofs", Via: api.ViaCLI, Why: name})
	if _, ok := errors.AsType[*api.Refused](err); !ok {
		p.t.Errorf("%s: got %v, want it refused", name, err)
	}
}

// try makes a change, with everything being watched, and returns what there is to say.
func (p *proofs) try(ctx context.Context, f fate, file api.File, what, name string) (how string) {
	x := &making{file: file, what: what, old: p.side, token: fmt.Sprintf("%016x%016x%016x", p.Uint64(), p.Uint64(), p.Uint64())}
	var err error
	if x.new, err = p.sideOf(file.Data); err != nil {
		p.t.Fatal(err)
	}
	if x.pins, err = p.pins(); err != nil {
		p.t.Fatal(err)
	}
	x.doors = p.sentinel.doors(x.new.Config)
	closed, _, err := p.announced(ctx, file)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range closed {
		if slices.Contains(x.doors, d) && x.new.Config.Zone(d.zone) != nil {
			p.t.Errorf("%s: the plan says that %s will be closed, and nothing about it changes", name, d)
		}
	}
	if len(closed) > 0 {
		how = fmt.Sprintf(", announced to close: %v", closed)
	}
	for _, d := range x.doors {
		if err := d.settle(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.path.hold(slices.DeleteFunc(slices.Clone(p.doors), func(d door) bool { return slices.Contains(closed, d) }))
	p.sentinel.between(x.old, x.new)
	p.tally[f.String()]++
	switch f {
	case forgotten:
		how += p.forget(ctx, x, name)
	case kept:
		p.confirm(ctx, x, name)
	case killed:
		how += p.kill(ctx, x, name)
	}
	p.sentinel.between(p.side, p.side)
	return how
}

func (p *proofs) apply(ctx context.Context, x *making, window time.Duration) (*api.Trial, error) {
	began := time.Now()
	t, err := p.API.Apply(ctx, api.Change{
		File: x.file, Author: "proofs", Via: api.ViaCLI, Why: x.what,
		Terms: api.Terms{Token: x.token, Window: api.Window(window), Origin: api.Origin{Address: p.doors[0].from}},
	})
	if err == nil {
		p.took = max(p.took, time.Since(began))
	}
	return t, err
}

// forget makes a change and lets its time pass, or cancels it. Some of the changes a
// service does not take.
func (p *proofs) forget(ctx context.Context, x *making, name string) string {
	n := p.tally[forgotten.String()]
	if n%12 == 6 {
		if end := p.stall(ctx, x, name); end != "" {
			return ", " + string(end)
		}
	}
	window, end := time.Duration(0), api.EndCanceled
	if n%4 == 1 {
		window, end = txn.MinWindow, api.EndUnconfirmed
	}
	if _, err := p.apply(ctx, x, window); err != nil {
		p.t.Errorf("%s: apply: %v", name, err)
		return ""
	}
	for _, d := range x.doors {
		p.open(d, name+": on trial")
	}
	if end == api.EndCanceled {
		if _, err := p.API.Cancel(ctx, api.Cancel{Author: "proofs"}); err != nil {
			p.t.Errorf("%s: cancel: %v", name, err)
		}
	}
	for {
		s, err := p.API.Status(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		if s.Pending == nil {
			break
		}
		if err := pause(ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	p.atOnce(ctx, p.file, name)
	p.ended(ctx, x, name, end)
	return ", " + string(end)
}

// stall makes a change that dnsd does not take, since it is stopped. It returns how that
// ended, or "" if there is nothing in the change for dnsd to take.
func (p *proofs) stall(ctx context.Context, x *making, name string) api.End {
	if same, err := p.sameDNS(ctx, p.file, x.file.Data); err != nil || same {
		return ""
	}
	dnsd := p.Daemons["dnsd"].PID()
	if err := syscall.Kill(dnsd, syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	_, err := p.apply(ctx, x, 0)
	if err == nil || !strings.Contains(err.Error(), "dnsd did not take the new configuration") {
		p.t.Errorf("%s: with dnsd stopped: %v", name, err)
	}
	p.atOnce(ctx, p.file, name)
	p.ended(ctx, x, name, api.EndFailed)
	if err := syscall.Kill(dnsd, syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
	return api.EndFailed
}

// sameDNS reports whether two files tell dnsd the same.
func (p *proofs) sameDNS(ctx context.Context, a, b []byte) (bool, error) {
	one, err := p.compile(ctx, a)
	if err != nil {
		return false, err
	}
	two, err := p.compile(ctx, b)
	return err == nil && reflect.DeepEqual(one.DNS, two.DNS), err
}

// atOnce makes sure that the kernel is as a file says, without having been waited for.
func (p *proofs) atOnce(ctx context.Context, file []byte, name string) {
	r, err := p.compile(ctx, file)
	if err != nil {
		p.t.Fatal(err)
	}
	diff, err := p.kernelDiffers(r.State)
	if err != nil {
		p.t.Fatal(err)
	}
	if diff != "" {
		p.t.Errorf("%s: the kernel is not what it is to be (-want +got):\n%s", name, diff)
	}
}

// ended makes sure that the box says what became of a change.
func (p *proofs) ended(ctx context.Context, x *making, name string, ends ...api.End) {
	s, err := p.API.Status(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if s.Last == nil || s.Last.ID != txn.IDOf(x.token) || !slices.Contains(ends, s.Last.End) {
		p.t.Errorf("%s: the box says that it ended as %+v, want %v", name, s.Last, ends)
	}
	pins, err := p.pins()
	if err != nil {
		p.t.Fatal(err)
	}
	for device, a := range x.pins {
		if d := p.side.Config.Device(device); d != nil && !slices.Contains(ends, api.EndConfirmed) && pins[device] != a {
			p.t.Errorf("%s: %s was at %s before, and is at %s", name, device, a, pins[device])
		}
	}
}

// confirm makes a change and keeps it.
func (p *proofs) confirm(ctx context.Context, x *making, name string) {
	if _, err := p.apply(ctx, x, 0); err != nil {
		p.t.Errorf("%s: apply: %v", name, err)
		return
	}
	for _, d := range x.doors {
		p.open(d, name+": on trial")
	}
	if _, err := p.API.Confirm(ctx, api.Confirm{Token: x.token}); err != nil {
		p.t.Errorf("%s: confirm: %v", name, err)
		return
	}
	p.adopt(x.file.Data)
	p.atOnce(ctx, p.file, name)
	p.ended(ctx, x, name, api.EndConfirmed)
}

// kill makes a change and kills netcfgd at some instant of it.
func (p *proofs) kill(ctx context.Context, x *making, name string) string {
	then := p.IntN(3) // what the author does when it is on trial
	delay := time.Duration(p.Int64N(int64(p.took * 5 / 4)))
	var applied, sure bool
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.apply(ctx, x, 0); err != nil {
			return
		}
		applied = true
		switch then {
		case 1:
			x.asked = true
			_, err := p.API.Confirm(ctx, api.Confirm{Token: x.token})
			sure = err == nil
		case 2:
			_, _ = p.API.Cancel(ctx, api.Cancel{Author: "proofs"}) // answered or not
		}
	})
	time.Sleep(delay) // the instant is what is random
	if _, err := p.Daemons["netcfgd"].Kill(ctx); err != nil {
		p.t.Fatal(err)
	}
	wg.Wait()
	var s *api.Status
	for {
		var err error
		if s, err = p.API.Status(ctx); err == nil && s.Mode == api.Running && s.Applied {
			break
		}
		if err := pause(ctx); err != nil {
			p.t.Fatalf("%s: netcfgd does not come back: %v\n%s", name, err, p.Daemons["netcfgd"].Log(30))
		}
	}
	how := fmt.Sprintf(", %v into it, applied: %v, asked to confirm: %v, confirmed: %v", delay.Round(time.Millisecond), applied, x.asked, sure)
	isNew := s.Last != nil && s.Last.ID == txn.IDOf(x.token) && s.Last.End == api.EndConfirmed
	switch {
	case sure && !isNew, isNew && !x.asked:
		p.t.Errorf("%s%s: the box says that it ended as %+v", name, how, s.Last)
	case isNew:
		p.adopt(x.file.Data)
	case applied && then == 2:
		p.ended(ctx, x, name, api.EndCanceled, api.EndInterrupted)
	case applied:
		p.ended(ctx, x, name, api.EndInterrupted)
	}
	return how
}

// check makes sure that everything is as the confirmed file says, and that nothing went
// wrong on the way.
func (p *proofs) check(ctx context.Context, name string) {
	p.t.Helper()
	settled, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		diff, err := p.differs(ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		if diff == "" {
			break
		}
		if pause(settled) != nil {
			p.t.Errorf("%s: afterwards something is not what it is to be (-want +got):\n%s", name, diff)
			break
		}
	}
	for _, d := range p.doors {
		p.open(d, name+": afterwards")
	}
	p.path.hold(p.doors)
	for _, a := range p.sentinel.seen() {
		p.t.Errorf("%s: what neither configuration allows: %s", name, a)
	}
	for _, f := range p.path.failures() {
		p.t.Errorf("%s: no way in: %s", name, f)
	}
	if p.t.Failed() {
		p.t.Fatalf("the file confirmed:\n%s\nlog of netcfgd:\n%s", p.file, p.Daemons["netcfgd"].Log(40))
	}
}

func (p *proofs) differs(ctx context.Context) (diff string, err error) {
	if diff, err = p.recordsDiffer(ctx, p.file); err != nil || diff != "" {
		return diff, err
	}
	r, err := p.compile(ctx, p.file)
	if err != nil {
		return "", err
	}
	k, err := p.kernelDiffers(r.State)
	if err != nil {
		return "", err
	}
	s, err := p.servicesDiffer(r)
	return k + s, err
}

// TestChangesProveThemselvesOrAreUndone makes random changes of each of the examples: a
// third of them is never confirmed, a third is, and a third is cut short by the death of
// netcfgd. After each, the kernel and the services are exactly what the confirmed file
// asks for; the way in worked all the while, as far as the plan did not say otherwise;
// and nothing ever passed that neither the configuration before nor the one after
// allows.
func TestChangesProveThemselvesOrAreUndone(t *testing.T) {
	changes := 10
	if n, err := strconv.Atoi(os.Getenv("BULKHEAD_CHANGES")); err == nil {
		changes = n
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v %v", files, err)
	}
	tally := make(map[string]int)
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Logf("make the same changes again with -seed %d", seed)
			began := time.Now()
			p := startProofs(t, file, seed+uint64(i), tally)
			for n := range (changes + i) / len(files) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				p.step(ctx, fate((n+i)%int(fates)))
				cancel()
			}
			t.Logf("%v so far; took %v; %d forbidden packets tried, %d came to the gateway; the way in was used %d times, with %d packets lost; in force within %v",
				p.tally, time.Since(began).Round(time.Second), p.sentinel.tried.Load(), p.sentinel.met.Load(), p.path.used.Load(), p.path.lost.Load(), p.took.Round(time.Millisecond))
			if p.sentinel.met.Load() == 0 || p.path.used.Load() == 0 {
				t.Error("nothing was watched")
			}
		})
	}
}
