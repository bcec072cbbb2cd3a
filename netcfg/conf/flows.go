package conf

import (
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// Bounds and defaults of what is kept of flows. A day of a home is 300,000 records of
// less than 16 bytes.
const (
	defaultKeep = 90 * 24 * time.Hour
	maxKeepDays = 3650
	defaultSize = 1 << 30
	minSize     = 16 << 20
	maxSize     = 1 << 40
)

// flows reads what is kept of flow records.
func (d *decoder) flows(n *node) {
	d.cfg.Flows = model.Flows{Keep: defaultKeep, Size: defaultSize}
	if n == nil || n.shape == empty {
		return
	}
	f := d.fields(n, n, "flows", "flows")
	if f == nil {
		return
	}
	const keepForm, sizeForm = "write a number of days, such as 90d", "write a size with a unit, such as 512MiB or 2GiB"
	if v, ok := d.word(f.get("keep"), "flows.keep", "a number of days", keepForm); ok {
		days, unit := strings.CutSuffix(v, "d")
		switch count, err := strconv.ParseUint(days, 10, 32); {
		case err != nil || !unit:
			d.error(f.get("keep"), "flows.keep", keepForm, "%q is not a number of days", cut(v))
		case count < 1 || count > maxKeepDays:
			d.error(f.get("keep"), "flows.keep", "choose from 1d to 3650d", "%s is out of range", cut(v))
		default:
			d.cfg.Flows.Keep = time.Duration(count) * 24 * time.Hour
		}
	}
	if v, ok := d.word(f.get("size"), "flows.size", "a size", sizeForm); ok {
		switch size, ok := size(v); {
		case !ok:
			d.error(f.get("size"), "flows.size", sizeForm, "%q is not a size", cut(v))
		case size < minSize || size > maxSize:
			d.error(f.get("size"), "flows.size", "choose from 16MiB to 1024GiB", "%s is out of range", cut(v))
		default:
			d.cfg.Flows.Size = size
		}
	}
}

// size reads a number of MiB or GiB.
func size(s string) (int64, bool) {
	for unit, shift := range map[string]uint{"MiB": 20, "GiB": 30} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 31)
			return int64(n) << shift, err == nil
		}
	}
	return 0, false
}

// recorded reads how much of a zone's flows is written down.
func (d *decoder) recorded(f *fields, path string) model.Recorded {
	const form = "write full, no-names, counts or off"
	v, ok := d.word(f.get("flows"), path, "how much is recorded", form)
	if !ok {
		return model.RecordFull
	}
	r, ok := model.ParseRecorded(v)
	if !ok {
		if v == "false" || v == "no" {
			d.error(f.get("flows"), path, "write off", "%q is not a way to record", cut(v))
		} else {
			d.error(f.get("flows"), path, form, "%q is not a way to record", cut(v))
		}
	}
	return r
}

// mode reads whether a zone's connections are judged, or for a while only watched, and
// returns the instant at which the watching is over; zero: there is none.
func (d *decoder) mode(f *fields, path string) time.Time {
	const last = "give the last day, such as observe-until: 2027-01-31"
	observe := false
	if v, ok := d.word(f.get("mode"), path+".mode", "a mode", "write enforce or observe"); ok {
		switch observe = v == "observe"; {
		case !observe && v != "enforce":
			d.error(f.get("mode"), path+".mode", "write enforce, or observe for a zone that may do everything for a while", "%q is not a mode", cut(v))
			return time.Time{}
		case observe && !f.has("observe-until"):
			d.error(f.get("mode"), path+".mode", last+"; until its end everything is allowed to the zone", "a zone cannot be observed for ever")
		}
	}
	n := f.get("observe-until")
	if n == nil {
		return time.Time{}
	}
	until := d.expires(n, path+".observe-until")
	if !observe {
		d.error(n, path+".observe-until", "write mode: observe beside it, or remove it", "the zone is not observed")
		return time.Time{}
	}
	return until
}
