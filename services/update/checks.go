//go:build linux

package update

import (
	"context"
	"time"

	"bulkhead/services/update/api"
)

const (
	checkTime = 3 * time.Second // how long one look may take for people who wait for a page
	checkKeep = 2 * time.Second // how long it is good for: who asks more often learns nothing
)

// checks asks the box's own programs what the gate asks them, for people who want to know
// how the box is.
func (u *updater) checks() ([]api.Check, error) {
	u.checking.Lock()
	defer u.checking.Unlock()
	if u.checked != nil && time.Since(u.checkedAt) < checkKeep {
		return u.checked, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	look := u.look.Look(ctx)
	if look.Netcfgd == nil {
		return []api.Check{{What: "netcfgd", Error: look.NoNetcfgd}}, nil
	}
	list := []api.Check{}
	for what, why := range look.Answers() {
		list = append(list, api.Check{What: what, Error: why})
	}
	u.checked, u.checkedAt = list, time.Now()
	return list, nil
}
