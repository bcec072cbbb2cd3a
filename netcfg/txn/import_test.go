package txn_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/txn"
)

// elsewhere is the history of another box, of n changes.
func elsewhere(t *testing.T, n int) []txn.Sealed {
	t.Helper()
	s, err := txn.NewStore(memory{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := commit(s, i+1); err != nil {
			t.Fatal(err)
		}
	}
	list, older := s.Sealed(1 << 20)
	if len(list) != n || older != 0 {
		t.Fatalf("of %d changes, %d are told, and %d are older", n, len(list), older)
	}
	return list
}

// restoring is a trial that restores a box which had three changes.
func restoring() txn.Trial {
	t := trial(4)
	t.Restores = true
	return t
}

func TestRestoredChangeFollowsTheHistoryOfTheOtherBox(t *testing.T) {
	disk := memory{}
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	other := elsewhere(t, 3)[1:] // the first is forgotten there
	if n, err := s.Import(other); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	if !s.Untouched() || numbers(s) != nil {
		t.Error("what is set aside is in the history")
	}
	if err := keep(s, restoring()); err != nil {
		t.Fatal(err)
	}
	again, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*txn.Store{s, again} {
		if diff := cmp.Diff([]int{4, 3, 2}, numbers(s)); diff != "" {
			t.Errorf("numbers differ (-want +got):\n%s", diff)
		}
		if got, err := s.Confirmed(); err != nil || string(got) != "config 4\n" || s.Damage() != nil {
			t.Errorf("confirmed: %q, %v; damage %q", got, err, s.Damage())
		}
	}
	// The chain, git's included, is the one that it would be on the other box.
	there := elsewhere(t, 4)
	if got, _ := again.Sealed(1 << 20); !bytes.Equal(got[2].Data, there[3].Data) {
		t.Errorf("the change is sealed as\n%s\nand on the other box it would be\n%s", got[2].Data, there[3].Data)
	}
	if n, err := again.Import(other); err != nil || n != 0 {
		t.Errorf("the same once more: got %d, %v", n, err)
	}
	if _, err := again.Import(elsewhere(t, 5)); !errors.Is(err, txn.ErrHistory) {
		t.Errorf("one that goes on from it: got %v", err)
	}
}

func TestOnlyAnUnbrokenHistoryIsTaken(t *testing.T) {
	good := elsewhere(t, 3)
	edited := slices.Clone(good)
	edited[1].Data = bytes.Replace(good[1].Data, []byte("alex"), []byte("kimm"), 1)
	renumbered := slices.Clone(good)
	renumbered[2].Number = 4
	for name, list := range map[string][]txn.Sealed{
		"edited": edited, "with a gap": {good[0], good[2]}, "backwards": {good[1], good[0]}, "renumbered": renumbered,
		"unsealed": {{1, []byte(`{"config":"YQ=="}`)}}, "nonsense": {{1, []byte("nonsense")}},
	} {
		disk := memory{}
		s, err := txn.NewStore(disk)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Import(list); !errors.Is(err, txn.ErrUnsealed) {
			t.Errorf("%s: got %v", name, err)
		}
		if len(disk) > 0 {
			t.Errorf("%s: left %q", name, slices.Collect(maps.Keys(disk)))
		}
	}
}

func TestBackupHoldsTheNewestThatIsWhole(t *testing.T) {
	disk := memory{}
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		if err := commit(s, n+1); err != nil {
			t.Fatal(err)
		}
	}
	size := len(disk["history/000005.json"])
	if list, older := s.Sealed(2*size + 10); len(list) != 2 || list[0].Number != 4 || older != 3 {
		t.Errorf("with room for two: got %d from %v, and %d older", len(list), list, older)
	}
	disk["history/000002.json"] = []byte("{")
	if s, err = txn.NewStore(disk); err != nil {
		t.Fatal(err)
	}
	list, older := s.Sealed(1 << 20)
	if len(list) != 3 || older != 2 {
		t.Errorf("behind a damaged one: got %d, and %d older", len(list), older)
	}
	fresh, err := txn.NewStore(memory{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Import(list); err != nil {
		t.Errorf("what is told is not taken: %v", err)
	}
}

// TestPowerCutAnywhereInARestore cuts the power before and after each operation of a
// restore: the box is as new, or restored whole, with a history that verifies.
func TestPowerCutAnywhereInARestore(t *testing.T) {
	restored := 0
	for n := 0; ; n++ {
		over := false
		for _, landed := range []bool{false, true} {
			disk := &mains{memory: memory{}, left: n, landed: landed}
			s, err := txn.NewStore(disk)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Import(elsewhere(t, 3))
			if err == nil {
				err = s.Stage(restoring())
			}
			if err == nil {
				err = s.Promote(txn.Outcome{ID: "4", End: txn.Confirmed})
			}
			over = err == nil && disk.left >= 0
			if restored += checkRestore(t, fmt.Sprint(n, landed), disk.memory); over && restored == 0 {
				t.Error("nothing is restored without an outage")
			}
		}
		if over {
			return
		}
	}
}

// checkRestore looks at a disk after an outage, and reports whether the box is restored.
func checkRestore(t *testing.T, name string, disk memory) int {
	t.Helper()
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for file := range disk {
		if strings.HasSuffix(file, ".import") || file == "staged.json" {
			t.Errorf("%s: %s is left", name, file)
		}
	}
	if s.Damage() != nil {
		t.Errorf("%s: damage %q", name, s.Damage())
	}
	config, err := s.Confirmed()
	if err != nil {
		if !s.Untouched() {
			t.Errorf("%s: there is no configuration, and the box is not as new: %v", name, slices.Collect(maps.Keys(disk)))
		}
		return 0
	}
	if diff := cmp.Diff([]int{4, 3, 2, 1}, numbers(s)); diff != "" || string(config) != "config 4\n" {
		t.Errorf("%s: confirmed is %q, and numbers differ (-want +got):\n%s", name, config, diff)
	}
	return 1
}

func TestHistoryOfARestoreThatIsUndoneIsForgotten(t *testing.T) {
	disk := memory{}
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	setAside(t, s)
	if err := errors.Join(s.Stage(restoring()), s.Discard()); err != nil {
		t.Fatal(err)
	}
	if len(disk) > 0 {
		t.Errorf("left: %q", slices.Collect(maps.Keys(disk)))
	}
	// One that was never tried is not that of another change.
	setAside(t, s)
	if err := commit(s, 1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1}, numbers(s)); diff != "" {
		t.Errorf("numbers differ (-want +got):\n%s", diff)
	}
}

// setAside sets the history of another box aside.
func setAside(t *testing.T, s *txn.Store) {
	t.Helper()
	if _, err := s.Import(elsewhere(t, 3)); err != nil {
		t.Fatal(err)
	}
}
