//go:build linux

package webui

import (
	"fmt"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/suggest"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
)

// exposed is what an exposure report is made of.
type exposed struct {
	Config  *model.Config
	Now     time.Time
	Used    map[string]int // rules that decided something within 30 or 90 days
	Oldest  time.Time      // of the records; zero: there are none
	Blind   string         // why it is not known what was used and seen; "": it is
	Seen    []inventory.Device
	Overdue []string  // secrets
	Built   time.Time // the image; zero: it is not known
}

// concern is a part of the report: things of one kind.
type concern struct {
	Title    string
	Empty    string // what is said if there is nothing
	Findings []finding
}

// finding is one thing, and the next small step about it.
type finding struct {
	Good     bool // nothing is to be done
	What     string
	Next     string // what to do; "" with Good
	Path, To string // where; "": nowhere here
}

// Periods after which something is looked at again.
const (
	imageOld  = 90 * 24 * time.Hour
	rulesSeen = 30 * 24 * time.Hour // so long records have to go back to say that a rule is not used
	endsSoon  = 14 * 24 * time.Hour
)

// report is what is open, and what should be looked at, in the order in which it matters.
func (e *exposed) report() []concern {
	return []concern{e.doors(), e.admins(), e.unused(), e.strangers(), e.secrets(), e.image()}
}

// doors are what the internet can open.
func (e *exposed) doors() concern {
	c := concern{Title: "What the internet can open", Empty: "Nothing: no forward is in the file."}
	idle := e.idle()
	for _, f := range e.Config.Forwards {
		if !f.Until.IsZero() && !e.Now.Before(f.Until) {
			continue // it is closed
		}
		what := fmt.Sprintf("%s at %s, by the forward %s: %s. Owner %s, until %s.",
			strings.Join(f.Protocols, ", "), f.To.Name, f.Name, f.Why, f.Owner, f.Until.In(e.Config.System.Location).Add(-time.Second).Format(time.DateOnly))
		d := finding{Good: true, What: what, Path: "/forwards?q=" + f.Name, To: "Forwards"}
		switch {
		case idle[f.Name] > 0:
			d.Good, d.Next = false, "Nobody has used it for a month: close it."
		case f.Until.Sub(e.Now) < endsSoon:
			d.Good, d.Next = false, "It ends soon: decide whether it is still needed."
		}
		c.Findings = append(c.Findings, d)
	}
	return c
}

// idle are the rules that decided nothing in 30 or 90 days, as far as records say.
func (e *exposed) idle() map[string]int {
	days := map[string]int{}
	if e.Blind == "" && !e.Oldest.IsZero() {
		for _, u := range suggest.Rules(e.Config, flows.LastUses(e.Used, e.Now), e.Oldest, e.Now, 30, 90) {
			days[u.Name] = u.Days
		}
	}
	return days
}

// admins are the zones from which the box is managed.
func (e *exposed) admins() concern {
	c := concern{Title: "Which zones reach the management pages"}
	n := 0
	for _, z := range e.Config.Zones {
		if z.Admin {
			n++
		}
	}
	for _, z := range e.Config.Zones {
		if !z.Admin {
			continue
		}
		d := finding{Good: n == 1, What: "Zone " + z.Name + " reaches ports 80 and 443 of the box.", Path: "/zones/" + pathPart(z.Name) + "/box", To: "Rules"}
		if n > 1 {
			d.Next = "One admin zone is enough for most: see whether this one is needed."
		}
		c.Findings = append(c.Findings, d)
	}
	if !e.Config.System.ClientCertificates {
		c.Findings = append(c.Findings, finding{Good: true, What: "Browsers are not asked for a certificate.", Path: "/account/certificates", To: "Client certificates"})
	}
	return c
}

// unused are rules that nobody needs, as far as is known.
func (e *exposed) unused() concern {
	c := concern{Title: "Rules that nothing uses", Empty: "Every rule was used within a month."}
	if e.Blind != "" || e.Oldest.IsZero() || e.Now.Sub(e.Oldest) < rulesSeen {
		c.Empty = "Records do not go back a month yet: nothing can be said."
		if e.Blind != "" {
			c.Empty = "It is not known: " + e.Blind + "."
		}
		return c
	}
	idle := e.idle()
	for _, r := range e.Config.Allow {
		if days := idle[r.Name]; days > 0 && (r.Until.IsZero() || e.Now.Before(r.Until)) {
			c.Findings = append(c.Findings, finding{
				What: fmt.Sprintf("The rule %s (%s) decided nothing in %d days.", r.Name, r.Why, days),
				Next: "Remove it, or write down when it is needed.", Path: "/rules?q=" + r.Name, To: "Rules",
			})
		}
	}
	return c
}

// strangers are devices that nobody has written down.
func (e *exposed) strangers() concern {
	c := concern{Title: "Devices that are not in the file", Empty: "Every device that was seen is in the file."}
	if e.Blind != "" {
		c.Empty = "It is not known: " + e.Blind + "."
	}
	const most = 20
	more := 0
	for i := range e.Seen {
		d := &e.Seen[i]
		if d.Known {
			continue
		}
		if len(c.Findings) == most {
			more++
			continue
		}
		what := fmt.Sprintf("%s in zone %s", d.MAC, d.Zone)
		if d.Vendor != "" {
			what += ", by " + d.Vendor
		}
		c.Findings = append(c.Findings, finding{What: strings.TrimSuffix(what, ".") + ".", Next: "Adopt it, or isolate it.", Path: "/devices/" + pathPart(d.MAC.String()), To: "The device"})
	}
	if more > 0 {
		c.Findings = append(c.Findings, finding{What: fmt.Sprintf("And %d more.", more), Next: "Look at them.", Path: "/devices?show=new", To: "Devices"})
	}
	return c
}

func (e *exposed) secrets() concern {
	c := concern{Title: "Secrets that are old", Empty: "No secret has had its value for more than a year."}
	for _, s := range e.Overdue {
		c.Findings = append(c.Findings, finding{What: "The secret " + s + " has had its value for more than a year.", Next: "Make another where it is used, and rotate it here.", Path: "/system/secrets", To: "Secrets"})
	}
	return c
}

func (e *exposed) image() concern {
	c := concern{Title: "Age of the system"}
	switch age := e.Now.Sub(e.Built); {
	case e.Built.IsZero():
		c.Findings = []finding{{What: "When the system was built is not known.", Next: "Start the box from an image.", Path: "/system", To: "System"}}
	case age > imageOld:
		c.Findings = []finding{{What: "The system was built " + spanText(age) + " ago.", Next: "Build or fetch a newer image, and push it.", Path: "/system", To: "System"}}
	default:
		c.Findings = []finding{{Good: true, What: "The system was built " + spanText(age) + " ago.", Path: "/system", To: "System"}}
	}
	return c
}
