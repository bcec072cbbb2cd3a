package txn_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/txn"
)

// mains is a disk whose power fails at a chosen operation, which happens, or not, as
// chosen; none after it does.
type mains struct {
	memory
	left   int  // operations until the power fails
	landed bool // the last one happens
}

func (m *mains) write(do func() error) error {
	if m.left < 0 {
		return errOutage
	}
	if m.left--; m.left < 0 {
		if m.landed {
			_ = do() // nobody is there to hear of it
		}
		return errOutage
	}
	return do()
}

func (m *mains) Write(name string, data []byte) error {
	return m.write(func() error { return m.memory.Write(name, data) })
}

func (m *mains) Rename(from, to string) error {
	return m.write(func() error { return m.memory.Rename(from, to) })
}

func (m *mains) Remove(name string) error {
	if _, ok := m.memory[name]; !ok {
		return fs.ErrNotExist
	}
	return m.write(func() error { return m.memory.Remove(name) })
}

// story is a transaction with what happens around it.
type story struct {
	t         *testing.T
	disk      *mains
	tx        *txn.Transaction
	inForce   string // in the kernel
	confirmed bool   // the author was told yes
	doubt     bool   // the power failed while the author was being told
}

const (
	before = "config 1\n"
	after  = "config 2\n"
	window = txn.UsualWindow
	effect = time.Hour // since boot
)

const author = "alex@desk"

// one is a disk with one configuration. Nobody changes it.
func one(t *testing.T) memory {
	disk := memory{}
	store, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(store, 1); err != nil {
		t.Fatal(err)
	}
	return disk
}

// begin is a store with one configuration and a change of it that has begun.
func begin(t *testing.T, first memory, left int, landed bool) *story {
	disk := &mains{memory: maps.Clone(first), left: left, landed: landed}
	store, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, disk: disk, tx: txn.New(store), inForce: before}
	tr := trial(2)
	tr.Identity, tr.Token = author, txn.Hash("secret")
	if err := s.tx.Begin(tr, window); err == nil {
		s.inForce = after
	}
	return s
}

// undo does as netcfgd: the reason first, then the network, then the rest.
func (s *story) undo(end txn.End) {
	if phase := s.tx.Phase(); phase != txn.Trying && phase != txn.Pending {
		return
	}
	tr := s.tx.Trial()
	_ = s.tx.Undo(tr.Outcome(end, tr.Time)) // it is undone all the same
	s.inForce = before
	_ = s.tx.Undone()
}

func (s *story) confirm(token, identity string, connected time.Duration) {
	powered := s.disk.left >= 0
	err := s.tx.Confirm(txn.Confirmation{Token: token, Identity: identity, Connected: connected}, time.Now())
	switch {
	case err == nil:
		s.confirmed = true
		if s.inForce != after {
			s.t.Error("confirmed while another configuration was in force")
		}
	case errors.Is(err, errOutage):
		s.doubt = s.doubt || powered
		s.undo(txn.Failed)
	}
}

const inForce = 0 // the event that the change is in force

// events are what may happen, in any order.
var events = []struct {
	name string
	do   func(*story)
}{
	inForce: {"in force", func(s *story) { s.tx.InForce(effect) }},
	{"confirm", func(s *story) { s.confirm("secret", author, effect+1) }},
	{"confirm with another token", func(s *story) { s.confirm("other", author, effect+1) }},
	{"confirm by somebody else", func(s *story) { s.confirm("secret", "kim@desk", effect+1) }},
	{"confirm over the old connection", func(s *story) { s.confirm("secret", author, effect) }},
	{"cancel", func(s *story) { s.undo(txn.Canceled) }},
	{"failure", func(s *story) { s.undo(txn.Failed) }},
	{"time passes", func(s *story) {
		time.Sleep(window / 2)
		if s.tx.Overdue() {
			s.undo(txn.Unconfirmed)
		}
	}},
	{"time passes unnoticed", func(s *story) { time.Sleep(window) }},
	{"second author", func(s *story) {
		busy := s.tx.Phase() != txn.Idle
		err := s.tx.Begin(trial(3), window)
		switch {
		case busy != errors.Is(err, txn.ErrBusy):
			s.t.Errorf("busy %t, but got %v", busy, err)
		case err == nil: // and is told no at once, so that the end stays that of the first
			s.undo(txn.Failed)
			if s.confirmed {
				s.inForce = after
			}
		}
	}},
}

// TestWhateverHappensOneConfigurationIsConfirmedAndInForce tells every story of three
// events, before and after the change is in force, and each of them with the power cut
// at every operation of the disk.
func TestWhateverHappensOneConfigurationIsConfirmedAndInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := one(t)
		for i := range events {
			for j := range events {
				for k := range events {
					if !everyCut(t, first, []int{i, j, k}) || i != inForce && !everyCut(t, first, []int{inForce, i, j, k}) {
						return
					}
				}
			}
		}
	})
}

// everyCut tells a story with the power cut at each operation, and reports whether all
// is well.
func everyCut(t *testing.T, first memory, tell []int) bool {
	for left := 0; !t.Failed(); left++ {
		play(t, first, tell, left, true)
		if !play(t, first, tell, left, false) {
			break
		}
	}
	return !t.Failed()
}

// play tells one story, and reports whether the power was cut in it.
func play(t *testing.T, first memory, tell []int, left int, landed bool) (cut bool) {
	s := begin(t, first, left, landed)
	for _, e := range tell {
		events[e].do(s)
		if s.disk.left < 0 {
			break // nobody is there to see more
		}
	}
	cut = s.disk.left < 0
	check(s, tell, left)
	return cut
}

// check looks at what is there after the process ended where it was, and began again.
func check(s *story, tell []int, left int) {
	fail := func(format string, args ...any) {
		var names []string
		for _, e := range tell {
			names = append(names, events[e].name)
		}
		s.t.Errorf("%s, power for %d operations: %s", strings.Join(names, ", "), left, fmt.Sprintf(format, args...))
	}
	running := s.disk.left >= 0
	idle := s.tx.Phase() == txn.Idle
	s.disk.left = 1 << 20
	store, err := txn.NewStore(s.disk)
	if err != nil {
		fail("open: %v", err)
		return
	}
	got, err := store.Confirmed()
	if err != nil {
		fail("confirmed: %v", err)
		return
	}
	switch {
	case s.confirmed && string(got) != after:
		fail("the author was told yes, but %q boots", got)
	case !s.confirmed && !s.doubt && string(got) != before:
		fail("nobody was told yes, but %q boots", got)
	case running && idle && s.inForce != string(got):
		fail("%q boots, but %q is in force", got, s.inForce)
	}
	history := store.History()
	if len(history) == 0 || string(history[0].Config) != string(got) {
		fail("the newest of the history is another")
	}
	if damage := store.Damage(); len(damage) > 0 {
		fail("damage: %q", damage)
	}
	if _, err := s.disk.Read("staged.json"); err == nil {
		fail("a trial is left")
	}
	if last, err := store.Last(); err != nil || last.ID == "2" && (last.End == txn.Confirmed) != (string(got) == after) {
		fail("%q boots, but the last trial is %s: %v", got, last.End, err)
	}
}

func TestOnlyItsAuthorConfirmsAChangeOverANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := txn.Confirmation{Token: "secret", Identity: author, Connected: effect + 1}
		with := func(f func(*txn.Confirmation)) txn.Confirmation {
			c := good
			f(&c)
			return c
		}
		s := begin(t, one(t), 1<<20, false)
		steps := []struct {
			name string
			c    txn.Confirmation
			want error
			then func()
		}{
			{"too early", good, txn.ErrNotYet, func() { s.tx.InForce(effect) }},
			{"another token", with(func(c *txn.Confirmation) { c.Token = "" }), txn.ErrToken, nil},
			{"another author", with(func(c *txn.Confirmation) { c.Identity = "kim@desk" }), txn.ErrIdentity, nil},
			{"root on the box", with(func(c *txn.Confirmation) { c.Identity = "" }), txn.ErrIdentity, nil},
			{"the connection of the change", with(func(c *txn.Confirmation) { c.Connected = effect }), txn.ErrConnection, nil},
			{"right", good, nil, nil},
			{"twice", good, txn.ErrNone, nil},
		}
		for _, st := range steps {
			if err := s.tx.Confirm(st.c, time.Now()); !errors.Is(err, st.want) {
				t.Errorf("%s: got %v, want %v", st.name, err, st.want)
			}
			if st.then != nil {
				st.then()
			}
		}
		s = begin(t, one(t), 1<<20, false)
		s.tx.InForce(effect)
		time.Sleep(window)
		if err := s.tx.Confirm(good, time.Now()); !errors.Is(err, txn.ErrOver) {
			t.Errorf("too late: got %v", err)
		}
	})
}

func TestTheSameFileAgainIsATrialLikeAnyOther(t *testing.T) {
	disk := &mains{memory: memory{}, left: 1 << 20}
	store, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(store, 1); err != nil {
		t.Fatal(err)
	}
	again := trial(1)
	again.ID, again.Why = "again", "once more"
	if err := store.Stage(again); err != nil {
		t.Fatal(err)
	}
	if store, err = txn.NewStore(disk); err != nil { // after a power cut
		t.Fatal(err)
	}
	if last, err := store.Last(); err != nil || last.ID != "again" || last.End != txn.Interrupted {
		t.Errorf("got outcome %+v, %v", last, err)
	}
	if history := store.History(); len(history) != 1 {
		t.Errorf("history holds %d changes", len(history))
	}
}
