package boot

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"bulkhead/services/update/disk"
)

// A Slot is one of the two places for a system: a kernel, a root and a loader entry.
type Slot byte

// The slots.
const (
	A Slot = 'a'
	B Slot = 'b'
)

// Other returns the other slot.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

// String returns "a" or "b".
func (s Slot) String() string { return string(rune(s)) }

// Partition returns the number of the slot's root partition.
func (s Slot) Partition() int { return disk.RootA + int(s-A) }

// Kernel returns the path of the slot's kernel on the boot partition.
func (s Slot) Kernel() string { return "/" + s.String() + "/vmlinuz" }

// A State is what a slot's entry lets the boot loader do. It is the entry's name.
type State int

// The states.
const (
	Good     State = iota // x.conf: bootable; the newest good slot is the default
	Disabled              // x+0.conf: its content is incomplete, or was never armed
	Armed                 // x+1.conf: the next boot tries it, once
	Tried                 // x+0-1.conf: tried; it is on trial if it runs, or else has failed
)

func (s State) String() string { return [...]string{"good", "disabled", "armed", "tried"}[s] }

// EntryName returns the file name of a slot's entry in a state.
func EntryName(slot Slot, state State) string {
	return slot.String() + [...]string{"", "+0", "+1", "+0-1"}[state] + ".conf"
}

// entryName matches the names that we and the boot loader give: with the tries left
// and those done.
var entryName = regexp.MustCompile(`^([ab])(?:\+([0-9]{1,9})(?:-([0-9]{1,9}))?)?\.conf$`)

// stateOf reads an entry's file name.
func stateOf(name string) (Slot, State, bool) {
	m := entryName.FindStringSubmatch(strings.ToLower(name))
	switch {
	case m == nil:
		return 0, 0, false
	case m[2] == "":
		return Slot(m[1][0]), Good, true
	case strings.Trim(m[2], "0") != "":
		return Slot(m[1][0]), Armed, true
	case strings.Trim(m[3], "0") != "":
		return Slot(m[1][0]), Tried, true
	}
	return Slot(m[1][0]), Disabled, true
}

// EntryBytes is the size of every loader entry. It never changes, so that overwriting
// one is writing one sector.
const EntryBytes = 512

// EntriesDir is where the boot loader looks for entries on the boot partition.
const EntriesDir = "/loader/entries"

// An Entry is what a loader entry says.
type Entry struct {
	Slot    Slot
	Serial  uint64 // grows with each update of this box: the highest is the default
	Version string // of the image, for people
	Built   string // when the image was built, RFC 3339; "" if that is not known
	Options string // the kernel's command line
}

// Render returns the entry as the boot loader reads it, [EntryBytes] long. It refuses
// values that would not come back from [ParseEntry].
//
// Source: UAPI.1 Boot Loader Specification, type 1.
func (e Entry) Render() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "title Bulkhead %s\nsort-key bulkhead\nversion %d\nlinux %s\noptions %s\n", e.Version, e.Serial, e.Slot.Kernel(), e.Options)
	if e.Built != "" {
		fmt.Fprintf(&b, "#built %s\n", e.Built)
	}
	if b.Len() > EntryBytes {
		return nil, fmt.Errorf("the kernel's command line is too long for a loader entry, by %d bytes", b.Len()-EntryBytes)
	}
	data := append(b.Bytes(), bytes.Repeat([]byte{'\n'}, EntryBytes-b.Len())...)
	if back, err := ParseEntry(data); err != nil {
		return nil, err
	} else if back != e {
		return nil, errors.New("the kernel's command line or the version has characters that a loader entry cannot hold")
	}
	return data, nil
}

// ParseEntry reads what [Entry.Render] made, and nothing else.
func ParseEntry(data []byte) (Entry, error) {
	bad := errors.New("not a loader entry of ours")
	if len(data) != EntryBytes {
		return Entry{}, bad
	}
	var e Entry
	want := []string{"title", "sort-key", "version", "linux", "options"}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	for _, line := range lines {
		if line != strings.TrimSpace(line) || strings.ContainsFunc(line, unprintable) {
			return Entry{}, bad
		}
	}
	if n := len(lines); n == len(want)+1 {
		built, ok := strings.CutPrefix(lines[n-1], "#built ")
		if !ok || built == "" {
			return Entry{}, bad
		}
		e.Built, lines = built, lines[:n-1]
	}
	if len(lines) != len(want) {
		return Entry{}, bad
	}
	for i, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		if key != want[i] || value == "" || strings.HasPrefix(value, " ") {
			return Entry{}, bad
		}
		ok := true
		switch key {
		case "title":
			e.Version, ok = strings.CutPrefix(value, "Bulkhead ")
			ok = ok && !strings.HasPrefix(e.Version, " ")
		case "sort-key":
			ok = value == "bulkhead"
		case "version":
			n, err := strconv.ParseUint(value, 10, 63)
			e.Serial, ok = n, err == nil
		case "linux":
			e.Slot, ok = A, true
			if value == B.Kernel() {
				e.Slot = B
			} else if value != A.Kernel() {
				ok = false
			}
		case "options":
			e.Options = value
		}
		if !ok {
			return Entry{}, bad
		}
	}
	return e, nil
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }
