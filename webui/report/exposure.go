// Package report writes about a network as a whole: what of it is open, and what somebody
// needs who has to look after it. It is told all that it writes about, and what is not known.
package report

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/suggest"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
)

// Facts are what an exposure report is made of.
type Facts struct {
	Config  *model.Config
	Now     time.Time
	Used    map[string]int // rules that decided something within 30 or 90 days
	Oldest  time.Time      // of the records; zero: there are none
	Blind   string         // why it is not known what was used and seen; "": it is
	Seen    []inventory.Device
	Status  *api.Status
	Built   time.Time // the image; zero: it is not known
	Undated string    // why it is not; "": this is no image
	Silent  []string  // which of the box's own programs do not answer, each with why
	Unasked string    // why that is not known; "": it is
}

// Exposure is what is open, and what should be looked at.
type Exposure struct {
	Made     time.Time `json:"made"`
	Open     int       `json:"open"`    // findings about which something is to be done
	Unknown  int       `json:"unknown"` // concerns of which not everything is known
	Concerns []Concern `json:"concerns"`
}

// Concern is a part of the report: things of one kind.
type Concern struct {
	Title    string    `json:"title"`
	Empty    string    `json:"empty,omitempty"`   // what is said if there is nothing, and that is known
	Unknown  string    `json:"unknown,omitempty"` // what is not known, and why
	Findings []Finding `json:"findings,omitempty"`
}

// Finding is one thing, and the next small step about it.
type Finding struct {
	Good bool   `json:"good"` // nothing is to be done
	What string `json:"what"`
	Next string `json:"next,omitempty"` // what to do; "" with Good
	Path string `json:"path,omitempty"` // page where; "": nowhere there
	To   string `json:"-"`              // what that is called
}

// Periods after which something is looked at again.
const (
	imageOld  = 90 * 24 * time.Hour
	rulesSeen = 30 * 24 * time.Hour // so long records have to go back to say that a rule is not used
	endsSoon  = 14 * 24 * time.Hour
)

// Exposure is the report, in the order in which things matter.
func (e *Facts) Exposure() Exposure {
	r := Exposure{Made: e.Now, Concerns: []Concern{e.doors(), e.admins(), e.unused(), e.strangers(), e.secrets(), e.image(), e.amiss()}}
	for i, c := range r.Concerns {
		if len(c.Findings) > 0 {
			r.Concerns[i].Empty = ""
		}
		if c.Unknown != "" {
			r.Unknown++
		}
		for _, f := range c.Findings {
			if !f.Good {
				r.Open++
			}
		}
	}
	return r
}

// Sentence is the report in one line.
func (r Exposure) Sentence() string {
	var words []string
	switch r.Open {
	case 0:
		words = append(words, "Nothing of what is known is left to look at.")
		if r.Unknown == 0 {
			words[0] = "Nothing is left to look at."
		}
	case 1:
		words = append(words, "1 thing to look at. It has its next step.")
	default:
		words = append(words, fmt.Sprintf("%d things to look at. Each has its next step.", r.Open))
	}
	switch r.Unknown {
	case 0:
	case 1:
		words = append(words, "Not everything is known: one part below says what is not.")
	default:
		words = append(words, fmt.Sprintf("Not everything is known: %d parts below say what is not.", r.Unknown))
	}
	return strings.Join(words, " ")
}

// unrecorded is why it cannot be said what was used in the last month; "": it can.
func (e *Facts) unrecorded() string {
	switch {
	case e.Blind != "":
		return e.Blind
	case e.Oldest.IsZero():
		return "there are no records yet"
	case e.Now.Sub(e.Oldest) < rulesSeen:
		return "records do not go back a month yet"
	}
	return ""
}

// doors are what the internet can open.
func (e *Facts) doors() Concern {
	c := Concern{Title: "What the internet can open", Empty: "Nothing: no forward is in the file."}
	idle := e.idle()
	why := e.unrecorded()
	for _, f := range e.Config.Forwards {
		if !f.Until.IsZero() && !e.Now.Before(f.Until) {
			continue // it is closed
		}
		what := fmt.Sprintf("%s at %s, by the forward %s: %s. Owner %s, until %s.",
			strings.Join(f.Protocols, ", "), f.To.Name, f.Name, f.Why, f.Owner, f.Until.In(e.Config.System.Location).Add(-time.Second).Format(time.DateOnly))
		d := Finding{Good: true, What: what, Path: "/forwards?q=" + f.Name, To: "Forwards"}
		switch {
		case idle[f.Name] > 0:
			d.Good, d.Next = false, "Nobody has used it for a month: close it."
		case f.Until.Sub(e.Now) < endsSoon:
			d.Good, d.Next = false, "It ends soon: decide whether it is still needed."
		}
		if why != "" {
			c.Unknown = "Whether it was used: " + why + "."
		}
		c.Findings = append(c.Findings, d)
	}
	return c
}

// idle are the rules that decided nothing in 30 or 90 days, as far as records say.
func (e *Facts) idle() map[string]int {
	days := map[string]int{}
	if e.Blind == "" && !e.Oldest.IsZero() {
		for _, u := range suggest.Rules(e.Config, flows.LastUses(e.Used, e.Now), e.Oldest, e.Now, 30, 90) {
			days[u.Name] = u.Days
		}
	}
	return days
}

// admins are the zones from which the box is managed.
func (e *Facts) admins() Concern {
	c := Concern{Title: "Which zones reach the management pages"}
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
		d := Finding{Good: n == 1, What: "Zone " + z.Name + " reaches ports 80 and 443 of the box.", Path: "/zones/" + url.PathEscape(z.Name) + "/box", To: "Rules"}
		if n > 1 {
			d.Next = "One admin zone is enough for most: see whether this one is needed."
		}
		c.Findings = append(c.Findings, d)
	}
	if !e.Config.System.ClientCertificates {
		c.Findings = append(c.Findings, Finding{Good: true, What: "Browsers are not asked for a certificate.", Path: "/account/certificates", To: "Client certificates"})
	}
	return c
}

// unused are rules that nobody needs, as far as is known.
func (e *Facts) unused() Concern {
	c := Concern{Title: "Rules that nothing uses", Empty: "Every rule was used within a month."}
	if why := e.unrecorded(); why != "" {
		c.Empty, c.Unknown = "", "Which those are: "+why+"."
		return c
	}
	idle := e.idle()
	for _, r := range e.Config.Allow {
		if days := idle[r.Name]; days > 0 && (r.Until.IsZero() || e.Now.Before(r.Until)) {
			c.Findings = append(c.Findings, Finding{
				What: fmt.Sprintf("The rule %s (%s) decided nothing in %d days.", r.Name, r.Why, days),
				Next: "Remove it, or write down when it is needed.", Path: "/rules?q=" + r.Name, To: "Rules",
			})
		}
	}
	return c
}

// strangers are devices that nobody has written down.
func (e *Facts) strangers() Concern {
	c := Concern{Title: "Devices that are not in the file", Empty: "Every device that was seen is in the file."}
	if e.Blind != "" {
		c.Empty, c.Unknown = "", "Which devices there are: "+e.Blind+"."
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
		c.Findings = append(c.Findings, Finding{What: strings.TrimSuffix(what, ".") + ".", Next: "Adopt it, or isolate it.", Path: "/devices/" + url.PathEscape(d.MAC.String()), To: "The device"})
	}
	if more > 0 {
		c.Findings = append(c.Findings, Finding{What: fmt.Sprintf("And %d more.", more), Next: "Look at them.", Path: "/devices?show=new", To: "Devices"})
	}
	return c
}

func (e *Facts) secrets() Concern {
	c := Concern{Title: "Secrets that are old", Empty: "No secret has had its value for more than a year."}
	for _, s := range e.Status.Overdue {
		c.Findings = append(c.Findings, Finding{What: "The secret " + s + " has had its value for more than a year.", Next: "Make another where it is used, and rotate it here.", Path: "/system/secrets", To: "Secrets"})
	}
	return c
}

func (e *Facts) image() Concern {
	c := Concern{Title: "Age of the system"}
	if e.Built.IsZero() {
		c.Unknown = "When the system was built: start the box from an image to have that known."
		if e.Undated != "" {
			c.Unknown = "When the system was built: " + e.Undated + "."
		}
		return c
	}
	age := e.Now.Sub(e.Built)
	f := Finding{Good: age <= imageOld, What: "The system was built " + daysText(age) + ".", Path: "/system", To: "System"}
	if !f.Good {
		f.Next = "Build or fetch a newer image, and push it."
	}
	c.Findings = []Finding{f}
	return c
}

// daysText is how long ago something was, to the day.
func daysText(age time.Duration) string {
	switch days := int(age / (24 * time.Hour)); {
	case days < 1:
		return "less than a day ago"
	case days == 1:
		return "1 day ago"
	default:
		return fmt.Sprintf("%d days ago", days)
	}
}

// amiss is what keeps the file, which the rest is about, from being what is so.
func (e *Facts) amiss() Concern {
	c := Concern{Title: "What does not work as the file says", Empty: "Nothing: every part of the box works as the file says."}
	if e.Unasked != "" {
		c.Empty, c.Unknown = "", "Whether the box’s own programs answer: "+e.Unasked+"."
	}
	say := func(path, to, next, what string) {
		c.Findings = append(c.Findings, Finding{What: what + ".", Next: next, Path: path, To: to})
	}
	const mend = "See to it: until then, what stands here may not be so."
	st := e.Status
	if st.Mode != api.Running {
		say("/history", "History", mend, "Nothing is forwarded: the box is in the mode "+string(st.Mode))
	} else if !st.Applied && len(st.Missing)+len(st.Troubles) == 0 {
		say("/", "Overview", mend, "The network is not as the file says yet")
	}
	if st.Pending != nil {
		say("/pending", "Pending change", "Keep or undo it.", "Another file is being tried, and this report is about the one before")
	}
	for _, what := range st.Missing {
		say("/system", "System", mend, "Missing: "+what)
	}
	for _, what := range st.Troubles {
		say("/", "Overview", mend, "Trouble: "+what)
	}
	if len(st.Untaken) > 0 {
		say("/", "Overview", mend, "These services have not taken the file, and perhaps do not run: "+strings.Join(st.Untaken, ", "))
	}
	for _, what := range e.Silent {
		say("/", "Overview", mend, "There is no answer from "+what)
	}
	return c
}
