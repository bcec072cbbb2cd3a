package inventory

import (
	"slices"
	"time"

	"bulkhead/services/flow/record"
)

// Hours is for how many hours it is known how much a device sent and received.
const Hours = 24

// Traffic is how many bytes a device's connections had, both ways, hour by hour. What is
// recorded counts for the hour in which it ended.
type Traffic struct {
	Hour  time.Time `json:"hour"`  // when the last hour began
	Bytes []uint64  `json:"bytes"` // oldest first, at most [Hours]
}

// Last returns the bytes of the last [Hours], the one that goes on included, oldest first.
func (t *Traffic) Last(now time.Time) []uint64 {
	list := make([]uint64, Hours)
	end := Hours - 1 - t.ago(now)
	for i, n := range t.Bytes {
		if at := end - (len(t.Bytes) - 1 - i); at >= 0 && at < Hours {
			list[at] = n
		}
	}
	return list
}

// ago is how many hours before a time the last one began, within reason.
func (t *Traffic) ago(at time.Time) int {
	return int(min(max(at.Truncate(time.Hour).Sub(t.Hour)/time.Hour, -2*Hours), 2*Hours))
}

// add counts the bytes of a record.
func (t *Traffic) add(now time.Time, r *record.Record) {
	at := r.End
	if at.After(now) {
		at = now
	}
	if len(t.Bytes) == 0 || t.Hour.After(now) || t.ago(at) >= Hours { // nothing of it matters, or the clock was set back
		*t = Traffic{Hour: at.UTC().Truncate(time.Hour), Bytes: []uint64{0}}
	}
	for range t.ago(at) {
		t.Hour = t.Hour.Add(time.Hour)
		t.Bytes = append(t.Bytes, 0)
	}
	back := -t.ago(at)
	if back >= Hours {
		return
	}
	for len(t.Bytes) <= back {
		t.Bytes = slices.Insert(t.Bytes, 0, 0)
	}
	t.Bytes = slices.Delete(t.Bytes, 0, max(0, len(t.Bytes)-Hours))
	t.Bytes[len(t.Bytes)-1-back] += r.Out.Bytes + r.In.Bytes
}
