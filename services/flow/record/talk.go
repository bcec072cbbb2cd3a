package record

import "cmp"

// Talk is what one party has to do with another.
type Talk struct {
	From    Party   `json:"from"`
	To      Party   `json:"to"`
	App     string  `json:"app,omitempty"`   // or else
	Proto   uint8   `json:"proto,omitempty"` // these two
	Port    uint16  `json:"port,omitempty"`
	Verdict Verdict `json:"verdict"`
	Rule    string  `json:"rule,omitempty"`
	Reason  string  `json:"reason,omitempty"`
}

// Party is one that talks: a device with a name, or all others of a zone.
type Party struct {
	Zone   string `json:"zone"`
	Device string `json:"device,omitempty"`
}

// TalkOf is the talk that a record is of.
func TalkOf(r *Record) Talk {
	t := Talk{
		From: Party{r.Src.Zone, r.Src.Device}, To: Party{r.Dst.Zone, r.Dst.Device},
		App: r.App, Verdict: r.Verdict, Rule: r.Rule, Reason: r.Reason,
	}
	if t.App == "" {
		t.Proto, t.Port = r.Proto, r.Dst.Port
	}
	return t
}

// Compare orders talks by their parties, and then by what they are about.
func (a *Talk) Compare(b *Talk) int {
	return cmp.Or(
		cmp.Compare(a.From.Zone, b.From.Zone), cmp.Compare(a.From.Device, b.From.Device),
		cmp.Compare(a.To.Zone, b.To.Zone), cmp.Compare(a.To.Device, b.To.Device),
		cmp.Compare(a.App, b.App), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
}

// TalkSum is what the records of one talk add up to. Its sum has no key.
type TalkSum struct {
	Talk
	Sum Sum `json:"sum"`
}
