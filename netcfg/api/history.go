package api

import "time"

// Entry is one change that was confirmed.
type Entry struct {
	Confirmed
	Name string `json:"name,omitempty"` // of the file

	// All below is there if one entry was asked for.
	Data      []byte   `json:"data,omitempty"`      // the file itself
	Reach     []string `json:"reach,omitempty"`     // what became possible and impossible by it when it was made, as [Reach.String] says it
	MoreReach int      `json:"moreReach,omitempty"` // lines of it that were not kept
	Sum       string   `json:"sum,omitempty"`       // SHA-256 over it and the sum of the change before, hexadecimal
	Parent    string   `json:"parent,omitempty"`    // the git commit of the change before; "" for the first
}

// Diff is how two changes of the history differ.
type Diff struct {
	From   int     `json:"from"`
	To     int     `json:"to"`
	Text   string  `json:"text"`             // of the files, in the unified format; "": none
	Reach  []Reach `json:"reach"`            // what To would make possible and impossible today, coming from From
	Untold string  `json:"untold,omitempty"` // why Reach cannot be told: one of the files cannot be used any more
}

// Push is how the history is taken to a repository elsewhere.
type Push struct {
	To      string    `json:"to"`
	Head    string    `json:"head,omitempty"`   // the last commit that the remote has, as far as is known
	Time    time.Time `json:"time,omitzero"`    // when it was last seen there
	Error   string    `json:"error,omitempty"`  // why the last attempt failed; it is repeated
	Failing time.Time `json:"failing,omitzero"` // since when they do
}
