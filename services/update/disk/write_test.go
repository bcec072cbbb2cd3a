package disk_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/update/disk"
)

// memory is a disk without a cache that remembers only sectors that were written.
type memory struct {
	sectors map[int64][]byte
	bytes   int64
}

func newMemory(bytes int64) memory { return memory{map[int64][]byte{}, bytes} }

func (m memory) clone() memory {
	c := newMemory(m.bytes)
	for at, data := range m.sectors {
		c.sectors[at] = slices.Clone(data)
	}
	return c
}

// each calls do with each part of p that lies in one sector, and that part of it.
func (m memory) each(p []byte, at int64, do func(p, sector []byte)) (int, error) {
	for n := 0; n < len(p); {
		from := (at + int64(n)) % disk.SectorBytes
		start := at + int64(n) - from
		if start < 0 || start+disk.SectorBytes > m.bytes {
			return n, io.EOF
		}
		s, ok := m.sectors[start]
		if !ok {
			s = make([]byte, disk.SectorBytes)
			m.sectors[start] = s
		}
		end := min(len(p), n+int(disk.SectorBytes-from))
		do(p[n:end], s[from:])
		n = end
	}
	return len(p), nil
}

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	return m.each(p, at, func(p, s []byte) { copy(p, s) })
}

func (m memory) WriteAt(p []byte, at int64) (int, error) {
	return m.each(p, at, func(p, s []byte) { copy(s, p) })
}

func (m memory) Sync() error { return nil }

var errCut = errors.New("power is gone")

// failing is a disk that loses power: sectors reach it in the order that choose
// gives them between two syncs, until left are used up.
type failing struct {
	memory
	pending []sector // written, not synced
	order   func([]sector)
	left    int
	syncs   int
}

type sector struct {
	at   int64
	data []byte
}

func (f *failing) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.memory.ReadAt(p, at)
	for _, s := range f.pending { // the system sees what it wrote
		for i := range s.data {
			if o := s.at + int64(i) - at; o >= 0 && o < int64(len(p)) {
				p[o] = s.data[i]
			}
		}
	}
	return n, err
}

func (f *failing) WriteAt(p []byte, at int64) (int, error) {
	for i := 0; i < len(p); i += disk.SectorBytes {
		f.pending = append(f.pending, sector{at + int64(i), slices.Clone(p[i : i+disk.SectorBytes])})
	}
	return len(p), nil
}

func (f *failing) Sync() error {
	f.syncs++
	f.order(f.pending)
	for _, s := range f.pending {
		if f.left == 0 {
			return errCut
		}
		f.left--
		if _, err := f.memory.WriteAt(s.data, s.at); err != nil {
			return err
		}
	}
	f.pending = nil
	return nil
}

// TestPowerIsLostWhileTheTableIsReplaced cuts after every sector that reaches the
// disk, in three orders that a disk may take within what one sync covers. The kernel
// must find the old table or the new one, and doing it again must end well.
func TestPowerIsLostWhileTheTableIsReplaced(t *testing.T) {
	const before, after = disk.DiskBytes, disk.DiskBytes + 64*disk.MiB
	orders := map[string]func([]sector){
		"as written": func([]sector) {},
		"backwards":  func(s []sector) { slices.Reverse(s) },
		"by halves":  func(s []sector) { h := len(s) / 2; slices.Reverse(s[:h]); slices.Reverse(s[h:]); slices.Reverse(s) },
	}
	for name, order := range orders {
		for _, from := range []int{0, 1} { // entries in sector 2, or in sector 34
			t.Run(fmt.Sprintf("%s, moved %d times", name, from), func(t *testing.T) {
				blank := newMemory(after)
				if err := disk.Create(blank, disk.ImageTable(instance)); err != nil {
					t.Fatal(err)
				}
				for range from {
					first, err := disk.ImageTable(instance).WithPerm(before / disk.SectorBytes)
					if err == nil {
						err = disk.Write(blank, first)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				old, err := disk.Read(blank, after/disk.SectorBytes)
				if err != nil {
					t.Fatal(err)
				}
				want, err := old.WithPerm(after / disk.SectorBytes)
				if err != nil {
					t.Fatal(err)
				}
				cuts := 0
				for ; ; cuts++ {
					dev := &failing{memory: blank.clone(), order: order, left: cuts}
					err := disk.Write(dev, want)
					got, readErr := disk.Read(dev.memory, after/disk.SectorBytes)
					if readErr != nil {
						t.Fatalf("cut after %d sectors: %v", cuts, readErr)
					}
					if !cmp.Equal(got, old, sameTable) && !cmp.Equal(got, want, sameTable) {
						t.Fatalf("cut after %d sectors: neither the old nor the new table", cuts)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, errCut) {
						t.Fatal(err)
					}
					again := &failing{memory: dev.memory, order: order, left: -1}
					if err := disk.Write(again, want); err != nil {
						t.Fatalf("cut after %d sectors, again: %v", cuts, err)
					}
					if got, err := disk.Read(again.memory, after/disk.SectorBytes); err != nil || !cmp.Equal(got, want, sameTable) {
						t.Fatalf("cut after %d sectors, again: %v", cuts, err)
					}
				}
				if cuts < 66 {
					t.Errorf("only %d sectors were written", cuts)
				}
			})
		}
	}
}

func TestNothingIsWrittenWhereTheTableIsRight(t *testing.T) {
	m := newMemory(disk.DiskBytes)
	if err := disk.Create(m, disk.ImageTable(instance)); err != nil {
		t.Fatal(err)
	}
	table, err := disk.ImageTable(instance).WithPerm(disk.DiskBytes / disk.SectorBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(m, table); err != nil {
		t.Fatal(err)
	}
	dev := &failing{memory: m}
	if err := disk.Write(dev, table); err != nil || dev.syncs != 0 {
		t.Errorf("got %d syncs, %v", dev.syncs, err)
	}
	if _, err := m.WriteAt([]byte{1}, disk.DiskBytes-1); err != nil { // in the second header
		t.Fatal(err)
	}
	dev = &failing{memory: m, order: func([]sector) {}, left: -1}
	if err := disk.Write(dev, table); err != nil || dev.syncs == 0 {
		t.Errorf("a broken second copy was left alone: %v", err)
	}
}
