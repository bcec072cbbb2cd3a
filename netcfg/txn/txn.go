// Package txn takes the box from one configuration to the next so that losing power
// at any instant leaves one of the two, whole: the old one, unless the author of the
// change confirmed it in time. It keeps the confirmed configuration and its history
// on disk, and notices when somebody or something else has changed them. It never reads
// what a configuration says and never touches the kernel.
package txn

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// A Change is a configuration on its way in: the file, and who wants it why.
type Change struct {
	Time   time.Time `json:"time"`
	Author string    `json:"author,omitempty"`
	Why    string    `json:"why,omitempty"`
	Via    string    `json:"via,omitempty"`  // by which way it came: cli, ui, api, console
	Name   string    `json:"name,omitempty"` // of the file, as its author calls it
	Config []byte    `json:"config"`

	// Reach is what became possible and impossible by it, in words, and MoreReach how
	// many lines more there were than are kept.
	Reach     []string `json:"reach,omitempty"`
	MoreReach int      `json:"moreReach,omitempty"`
}

// A Trial is a change that nobody has confirmed yet: what is on disk of it.
type Trial struct {
	ID string `json:"id"`
	Change
	Identity string    `json:"identity"` // of its author, whatever they call themselves
	Token    string    `json:"token"`    // its [Hash]
	Deadline time.Time `json:"deadline"` // for people: what counts is the time that passes
	// Repeats says that the configuration was the confirmed one already, so that the
	// two being the same does not tell that somebody confirmed the trial.
	Repeats bool `json:"repeats,omitempty"`
	// Restores says that what was set aside by [Store.Import] is the history before it.
	Restores bool `json:"restores,omitempty"`
}

// Outcome is what became of a trial.
type Outcome struct {
	ID     string    `json:"id"`
	Author string    `json:"author,omitempty"`
	Via    string    `json:"via,omitempty"`
	Why    string    `json:"why,omitempty"`  // of the change
	Name   string    `json:"name,omitempty"` // of its file
	Time   time.Time `json:"time"`           // when it ended; if nobody was there to see it, when the change began
	End    End       `json:"end"`
	By     string    `json:"by,omitempty"`     // who canceled it
	Detail string    `json:"detail,omitempty"` // what failed
}

// End is how a trial ended.
type End string

// The ends.
const (
	Confirmed   End = "confirmed"
	Unconfirmed End = "unconfirmed" // nobody confirmed it in time
	Canceled    End = "canceled"
	Failed      End = "failed"      // a step failed, or a service did not take it
	Interrupted End = "interrupted" // netcfgd ended, or the power was cut
)

// Outcome returns the outcome of t that it has at a time.
func (t *Trial) Outcome(end End, at time.Time) Outcome {
	return Outcome{ID: t.ID, Author: t.Author, Via: t.Via, Why: t.Why, Name: t.Name, Time: at, End: end}
}

// Hash is what is kept of a token: SHA-256, hexadecimal. A token is random and long,
// so that it needs no slow hash.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// IDOf returns the ID of the trial with the token, of which it tells too little to be
// of use: whoever made the token knows which trial is theirs.
func IDOf(token string) string { return Hash(token)[:12] }

// The windows in which a trial may be confirmed.
const (
	MinWindow   = 10 * time.Second
	UsualWindow = 2 * time.Minute
	MovedWindow = 5 * time.Minute // if the box has another address to be confirmed at
	MaxWindow   = 30 * time.Minute
)
