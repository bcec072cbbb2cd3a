package inventory_test

import (
	"slices"
	"testing"
	"time"

	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

func TestTrafficIsKnownByTheHour(t *testing.T) {
	v := house(t)
	now := start.Add(time.Hour)
	send := func(end time.Time, n uint64) {
		r := allowed(end, "198.51.100.1", 443)
		r.Out.Bytes, r.In.Bytes = n, 0
		v.Records(now, []record.Record{r})
	}
	// The last three hours, and what is left out as it is too long ago.
	traffic := func() []uint64 {
		for _, d := range v.Devices() {
			if d.MAC == camera {
				list := d.Traffic.Last(now)
				if slices.Max(list[:inventory.Hours-3]) > 0 {
					t.Errorf("got %v", list)
				}
				return list[inventory.Hours-3:]
			}
		}
		return nil
	}
	is := func(want ...uint64) {
		t.Helper()
		if got := traffic(); !slices.Equal(got, want) {
			t.Errorf("at %s: got %v, want %v", now.Format(time.TimeOnly), got, want)
		}
	}
	send(now.Add(time.Minute), 1) // the future counts as now
	send(now.Add(-time.Hour), 20)
	send(now, 4)
	is(0, 20, 5)
	now = now.Add(time.Hour)
	is(20, 5, 0)
	send(now, 300)
	send(now.Add(-90*time.Minute), 10)
	is(20+10, 5, 300)
	send(now.AddDate(0, 0, -3), 9)
	is(30, 5, 300)
	data, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if v, err = inventory.Decode(data, inventory.Lists{}); err != nil {
		t.Fatal(err)
	}
	v.Configure(config())
	is(30, 5, 300)
	now = now.AddDate(1, 0, 0)
	is(0, 0, 0)
	send(now, 7)
	is(0, 0, 7)
	now = now.AddDate(-1, 0, 0) // the clock is set back
	send(now, 8)
	is(0, 0, 8)
	for range 100 {
		now = now.Add(time.Hour)
		send(now, 1)
		send(now.Add(-23*time.Hour), 0)
	}
	if list := v.Devices()[0].Traffic; len(list.Bytes) != inventory.Hours {
		t.Errorf("%d hours are kept", len(list.Bytes))
	}
}
