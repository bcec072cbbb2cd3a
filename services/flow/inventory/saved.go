package inventory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// MaxFile is how large a saved inventory can be, in bytes.
const MaxFile = 32 << 20

// saved is an inventory as it is kept. Fields that this program does not know are
// skipped: after an update was undone, the file is that of a newer one.
type saved struct {
	Began   time.Time            `json:"began"`
	Told    map[string]time.Time `json:"told,omitempty"`
	Devices []savedDevice        `json:"devices"`
}

type savedDevice struct {
	Device
	Announced bool          `json:"announced,omitempty"`
	Watched   time.Duration `json:"watched,omitempty"` // nanoseconds
	Habits    []habit       `json:"habits,omitempty"`
}

// Encode returns the inventory as it is kept.
func (v *Inventory) Encode() ([]byte, error) {
	s := saved{Began: v.began, Told: v.told.last}
	for _, mac := range slices.SortedFunc(maps.Keys(v.devices), func(a, b model.MAC) int { return slices.Compare(a[:], b[:]) }) {
		d := v.devices[mac]
		o := savedDevice{Device: d.public(), Announced: d.announced, Watched: d.habits.time}
		o.Habits = slices.SortedFunc(maps.Keys(d.habits.known), compareHabits)
		s.Devices = append(s.Devices, o)
	}
	return json.Marshal(s)
}

func compareHabits(a, b habit) int {
	return cmp.Or(strings.Compare(a.Zone, b.Zone), a.Net.Compare(b.Net), strings.Compare(a.Country, b.Country), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
}

// Decode returns the inventory that [Inventory.Encode] made. Nothing in it is larger than
// it may be, whatever is in the file.
func Decode(data []byte, lists Lists) (*Inventory, error) {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode inventory: %w", err)
	}
	if s.Began.IsZero() {
		return nil, fmt.Errorf("decode inventory: it never began")
	}
	v := New(s.Began, lists)
	for key, at := range s.Told {
		if len(v.told.last) < maxTold {
			v.told.last[key] = at
		}
	}
	// The latest first: they are kept if there are too many, and have their addresses.
	slices.SortStableFunc(s.Devices, func(a, b savedDevice) int { return b.Last.Compare(a.Last) })
	for _, o := range s.Devices {
		if _, twice := v.devices[o.MAC]; !twice && len(v.devices) < MaxDevices && !o.MAC.IsZero() {
			v.restore(o)
		}
	}
	return v, nil
}

func (v *Inventory) restore(o savedDevice) {
	d := &device{Device: o.Device, announced: o.Announced}
	d.Addresses = slices.DeleteFunc(d.Addresses, func(u Used) bool { return !u.Address.IsValid() })
	d.Addresses = d.Addresses[:min(len(d.Addresses), maxAddrs)]
	d.Hostnames = d.Hostnames[:min(len(d.Hostnames), maxNames)]
	for i, name := range d.Hostnames {
		d.Hostnames[i] = printable(name)
	}
	d.Talks = d.Talks[:min(len(d.Talks), maxTalks)]
	d.Traffic.Bytes = d.Traffic.Bytes[max(0, len(d.Traffic.Bytes)-Hours):]
	d.Traffic.Hour = d.Traffic.Hour.UTC().Truncate(time.Hour)
	d.Randomised = d.MAC[0]&2 != 0
	if !d.Randomised {
		d.Vendor = cmp.Or(v.lists.vendor(d.MAC), d.Vendor)
	}
	d.habits = habits{time: min(max(o.Watched, 0), LearnTime), varied: o.Varied}
	if len(o.Habits) > 0 && len(o.Habits) <= maxHabits && !o.Varied && v.learnt+len(o.Habits) <= maxLearnt {
		d.habits.known = make(map[habit]struct{}, len(o.Habits))
		for _, b := range o.Habits {
			b.Country = b.Country[:min(len(b.Country), 2)]
			d.habits.known[b] = struct{}{}
		}
		v.learnt += len(d.habits.known)
	}
	for _, u := range d.Addresses {
		if v.holders[u.Address].IsZero() {
			v.holders[u.Address] = d.MAC
		}
	}
	v.devices[d.MAC] = d
}
