//go:build linux

package updates_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// laptop is a client that has a lease throughout.
var laptop = net.HardwareAddr{2, 0, 0, 0, 0, 1}

var hoardIsFull = regexp.MustCompile(`hoard: /perm is full`)

// flip changes one bit in the middle of what it reads.
func flip(open func() (io.Reader, error)) func() (io.Reader, error) {
	return func() (io.Reader, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		data[len(data)/2] ^= 1
		return bytes.NewReader(data), nil
	}
}

// withRoot puts another root into an image.
func withRoot(t *testing.T, i *image, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	i.m.Root = manifest.Part{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	i.root = func() (io.Reader, error) { return bytes.NewReader(data), nil }
}

// TestUpdates takes one box through every kind of update. Each leaves the configuration
// and the leases alone.
func TestUpdates(t *testing.T) {
	t.Parallel()
	all := theImages(t)
	begin := time.Now()
	b := newBox(t, all.one)
	t.Logf("claimed after %s", time.Since(begin).Round(time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	lease, err := b.station.lease(ctx, laptop, "laptop")
	cancel()
	if err != nil {
		t.Fatal(err)
	}

	t.Run("diagnoses", b.diagnoses)

	refused := []struct {
		name, says string
		i          image
	}{
		{"unsigned", "not signed", b.image(all.two, nil)},
		{"tampered", "not what was signed", b.image(all.two, nil)},
		{"another machine", "ARCH=", b.image(all.two, func(i *image) { i.m.Arch = map[string]string{"amd64": "arm64", "arm64": "amd64"}[i.m.Arch] })},
	}
	refused[0].i.sigs = nil
	refused[1].i.root = flip(refused[1].i.root)
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			if err := b.push(t.Context(), c.i); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want something with %q", err, c.says)
			}
			_ = b.updated.Forget(t.Context()) // there may be none
		})
	}

	version := "1"
	last := time.Time{}
	for _, c := range []struct {
		name string
		i    image
		ok   func(*updates.Outcome) bool
		then string // the version that runs
	}{
		{"init ends", b.image(all.two, func(i *image) { withRoot(t, i, all.init) }), died, "1"},
		{"init hangs", b.image(all.two, func(i *image) { withRoot(t, i, all.init); i.m.Cmdline += " hang=watchdog" }), died, "1"},
		{"kernel panics", b.image(all.two, func(i *image) { i.m.Cmdline = strings.ReplaceAll(i.m.Cmdline, "init=/gokrazy/init", "init=/nothing") }), died, "1"},
		{"DNS is deaf", b.image(all.deaf, nil), func(o *updates.Outcome) bool {
			return o.Outcome == updates.Undone && strings.Contains(o.Why, "DNS in zone") && o.Version == "3"
		}, "1"},
		{"good", b.image(all.two, nil), func(o *updates.Outcome) bool { return o.Outcome == updates.Kept && o.Version == "2" }, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			if err := b.push(t.Context(), c.i); err != nil {
				t.Fatal(err)
			}
			pushed := time.Since(begin)
			st := b.settled(c.name, func(s updates.Status) bool { return s.Last != nil && s.Last.Time.After(last) })
			last = st.Last.Time
			if st.Version != c.then || !c.ok(st.Last) {
				t.Errorf("version %s runs, the update: %+v", st.Version, st.Last)
			}
			version = st.Version
			b.kept(lease)
			t.Logf("sent in %s, decided after %s: %+v", pushed.Round(time.Second), time.Since(begin).Round(time.Second), st.Last)
		})
	}

	t.Run("disk full", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := b.station.lease(ctx, net.HardwareAddr{2, 0, 0, 0, 0, 2}, "fill-the-disk"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.m.Await(ctx, hoardIsFull); err != nil {
			t.Fatal(err)
		}
		if err := b.push(ctx, b.image(all.one, nil)); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("got %v", err)
		}
		if st := b.settled("a full disk", func(updates.Status) bool { return true }); st.Version != version || st.Other.State == "armed" {
			t.Errorf("got %+v", st)
		}
		b.kept(lease)
	})
}

// kills is how often the power is cut.
func kills(t *testing.T, n int) int {
	t.Helper()
	if s := os.Getenv("BULKHEAD_KILLS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestPowerIsCutDuringUpdates cuts the power at random instants between the first byte
// and the end of the trial. Each time one of the two systems starts, with the
// configuration and the leases that were there. BULKHEAD_KILLS says how many times.
func TestPowerIsCutDuringUpdates(t *testing.T) {
	t.Parallel()
	kills := kills(t, 2)
	all := theImages(t)
	b := newBox(t, all.one)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	lease, err := b.station.lease(ctx, laptop, "laptop")
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]image{"1": b.image(all.two, nil), "2": b.image(all.one, nil)}
	st := b.settled("the first system", func(updates.Status) bool { return true })

	// How long a whole update takes here and now.
	begin := time.Now()
	if err := b.push(t.Context(), next[st.Version]); err != nil {
		t.Fatal(err)
	}
	st = b.settled("an update in peace", func(s updates.Status) bool { return s.Last != nil && s.Last.Outcome == updates.Kept })
	whole := time.Since(begin)
	t.Logf("an update takes %s", whole.Round(time.Second))
	for n := range kills {
		before := st.Version
		// One in each of as many parts of it, so that a few cuts meet more than its beginning.
		after := whole*time.Duration(n)/time.Duration(kills) + time.Duration(rand.Int64N(int64(whole)/int64(kills)))
		ctx, cancel := context.WithTimeout(t.Context(), after)
		pushed := b.push(ctx, next[before])
		<-ctx.Done()
		cancel()
		said := b.m.Tail(3)
		b.cut()
		b.on()
		st = b.settled(fmt.Sprintf("after power cut %d, %s into an update", n+1, after), func(updates.Status) bool { return true })
		if st.Version != "1" && st.Version != "2" || st.Version != before && pushed != nil {
			t.Fatalf("cut after %s: version %s runs, %s ran before; the push: %v; the console said %s", after, st.Version, before, pushed, said)
		}
		b.kept(lease)
		t.Logf("cut after %s of %s: version %s ran, %s runs; push: %v; last: %+v", after.Round(100*time.Millisecond), whole.Round(time.Second), before, st.Version, pushed, st.Last)
		if t.Failed() {
			return
		}
	}
}

// TestNothingAcknowledgedIsLost cuts the power while leases are taken, configurations applied
// and connections recorded. Each lease that was acknowledged, and each configuration whose
// author was told that it is in force, is there afterwards, and so is each record that was
// shown five seconds before or earlier, once. BULKHEAD_KILLS says how many times.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	kills := kills(t, 2)
	all := theImages(t)
	b := newBox(t, all.one)
	b.settled("the first system", func(updates.Status) bool { return true })
	leases := map[string]string{} // address by MAC, as acknowledged
	number := 1
	var flows witness
	for n := range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var took sync.WaitGroup
		took.Go(func() { flows.call(ctx, b) })
		took.Go(func() { flows.follow(ctx, b.client) })
		took.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				mac := net.HardwareAddr{2, 1, 0, byte(n), byte(i >> 8), byte(i)}
				if address, err := b.station.lease(ctx, mac, "client"); err == nil {
					leases[mac.String()] = address
				}
				select { // the pool has 128 addresses
				case <-ctx.Done():
				case <-time.After(300 * time.Millisecond):
				}
			}
		})
		took.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := config + fmt.Sprintf("# change %d.%d\ndevices:\n  d%d-%d: {zone: iot, mac: %q, owner: alex, purpose: test}\n", n, i, n, i, fmt.Sprintf("02:02:00:%02x:00:%02x", n, i))
				change := api.Change{File: api.File{Name: "home.yaml", Data: []byte(text)}, Why: "change"}
				if _, err := api.Keep(ctx, b.client, change); err == nil {
					number++
				}
			}
		})
		shown := len(flows.seen())
		soon, end := context.WithTimeout(t.Context(), patience)
		b.until(soon, "flows are shown", func() error {
			if n := len(flows.seen()) - shown; n < 20 {
				return fmt.Errorf("%d records", n)
			}
			return nil
		})
		end()
		time.Sleep(time.Second + time.Duration(rand.Int64N(int64(8*time.Second))))
		cut := time.Now()
		b.cut()
		cancel()
		took.Wait()
		acknowledged := number
		b.on()
		ctx, cancel = context.WithTimeout(t.Context(), patience)
		var st *api.Status
		b.until(ctx, "netcfgd runs", func() (err error) {
			if st, err = b.client.Status(ctx); err == nil && st.Mode != api.Running {
				err = fmt.Errorf("it is %s: %s", st.Mode, st.Reason)
			}
			return err
		})
		// One more may have been confirmed whose answer was lost.
		if got := st.Confirmed.Number; got != acknowledged && got != acknowledged+1 {
			t.Errorf("cut %d: configuration %d is in force, %d was acknowledged", n+1, got, acknowledged)
		}
		number = st.Confirmed.Number
		var list []svcLease
		b.until(ctx, "dhcpd has read its leases", func() (err error) {
			if list, err = b.client.Leases(ctx); err == nil && len(list) == 0 && len(leases) > 0 {
				err = errors.New("no leases")
			}
			return err
		})
		b.until(ctx, "flowd answers", func() error { return flows.look(ctx, b.client) })
		cancel()
		flows.check(t, cut)
		for _, l := range list {
			if want, ok := leases[l.MAC.String()]; ok && want != l.Address.String() {
				t.Errorf("cut %d: %s has %s, and was given %s", n+1, l.MAC, l.Address, want)
			}
		}
		for mac, address := range leases {
			if !slices.ContainsFunc(list, func(l svcLease) bool { return l.MAC.String() == mac }) {
				t.Errorf("cut %d: the lease of %s to %s is lost", n+1, address, mac)
			}
		}
		t.Logf("cut %d: configuration %d, %d leases", n+1, number, len(leases))
		if t.Failed() {
			return
		}
	}
}
