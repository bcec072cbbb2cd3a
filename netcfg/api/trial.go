package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Via is which way a change came in.
type Via string

// The ways.
const (
	ViaCLI     Via = "cli"
	ViaUI      Via = "ui"
	ViaAPI     Via = "api"
	ViaConsole Via = "console"
)

// Origin is where a request comes from. netcfgd finds out who it is from, and webuid says
// the rest of those that it passes on, whatever they say themselves. It is zero for who is
// root on the box itself.
type Origin struct {
	Identity string     `json:"identity,omitempty"` // such as user:alex or token:ci
	Address  netip.Addr `json:"address,omitzero"`   // of the client
	// Connected is when the connection was accepted that the request came over, by
	// [Uptime], in nanoseconds; 0: as netcfgd sees it.
	Connected time.Duration `json:"connected,omitempty"`
}

// Change is a configuration file that is to be tried.
type Change struct {
	File   File   `json:"file"`
	Author string `json:"author,omitempty"`
	Via    Via    `json:"via,omitempty"`
	Why    string `json:"why,omitempty"`
	Terms
	// Restores says that the file is that of a backup, and how many changes come before
	// it if it stays: as many as [Restored] says. If they are not at hand any more, it is
	// refused.
	Restores int `json:"restores,omitempty"`
}

// Undo asks for the configuration that was in force before the last change. It comes
// as a change of its own: undoing it as well brings the last one back.
type Undo struct {
	Author string `json:"author,omitempty"`
	Via    Via    `json:"via,omitempty"`
	Terms
}

// Terms are how a change is tried.
type Terms struct {
	// Window is how long it may take to confirm the change; 0: two minutes, or five
	// if the box moves. It is half an hour at most.
	Window Window `json:"window,omitempty"`
	// Ignore names services that need not take the change for it to stay.
	Ignore []string `json:"ignore,omitempty"`
	// Token is what the change is to be confirmed with: at least 32 random
	// characters. Who chooses it can confirm a change although the answer got lost,
	// as it does with the address that it was sent from. "": the box chooses.
	Token string `json:"token,omitempty"`
	// AcceptLockout puts the change into force although its author, or everybody,
	// cannot reach the box afterwards. Only root on the box itself may.
	AcceptLockout bool   `json:"acceptLockout,omitempty"`
	Origin        Origin `json:"origin,omitzero"`
}

// MinToken is how long a token is at least that a client chooses, in bytes.
const MinToken = 32

// Window is a duration that is written such as 2m30s.
type Window time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (w Window) MarshalText() ([]byte, error) { return []byte(time.Duration(w).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Its error wraps [ErrInvalid].
func (w *Window) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return Tell(ErrInvalid, fmt.Errorf("the window, which is the time to confirm a change, is such as 5m or 90s, not %q", text))
	}
	*w = Window(d)
	return nil
}

// String writes it in whole seconds, such as 2m or 1m30s.
func (w Window) String() string {
	s := time.Duration(w).Round(time.Second).String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		return short + "m"
	}
	return s
}

// Trial is a change that is in force, and is undone unless it is confirmed in time.
type Trial struct {
	Pending
	Token string `json:"token"`          // to confirm it with; nobody is told it again
	Plan  *Plan  `json:"plan,omitempty"` // what the change did
}

// Phase is how far a change is.
type Phase string

// The phases.
const (
	Trying  Phase = "trying"  // it is being put into force
	Waiting Phase = "pending" // it is in force and waits for its author
)

// Pending is a change that is not confirmed.
type Pending struct {
	ID       string    `json:"id"`
	Phase    Phase     `json:"phase"`
	Author   string    `json:"author,omitempty"`
	Via      Via       `json:"via,omitempty"`
	Why      string    `json:"why,omitempty"`
	Name     string    `json:"name,omitempty"` // of the file
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline"` // by the box's clock: undone then
	Left     Window    `json:"left"`     // until then
	Moves    []Move    `json:"moves,omitempty"`
	Steps    int       `json:"steps"`           // how many the plan has
	Reach    []Reach   `json:"reach,omitempty"` // the first few of the plan's
	More     int       `json:"more,omitempty"`  // how many others there are
}

// Move is an admin zone in which the box is elsewhere by a change.
type Move struct {
	Zone string     `json:"zone"`
	From netip.Addr `json:"from,omitzero"` // zero: there was no such admin zone
	To   netip.Addr `json:"to,omitzero"`   // zero: there no longer is
}

// Confirm keeps the change that is pending. It must come from the change's author, over
// a connection that began after the change.
type Confirm struct {
	Token  string `json:"token"`
	Origin Origin `json:"origin,omitzero"`
}

// Cancel undoes the change that is pending, whoever's it is.
type Cancel struct {
	ID     string `json:"id,omitempty"`     // of the change that is meant; "": of whichever is pending
	Author string `json:"author,omitempty"` // who wants it
	Origin Origin `json:"origin,omitzero"`
}

// Keep applies a change and confirms it as soon as it is in force, over a client that
// makes a connection for each call. That b can be reached is all that it makes sure of.
func Keep(ctx context.Context, b Backend, c Change) (*Trial, error) {
	t, err := b.Apply(ctx, c)
	if err != nil {
		return nil, err
	}
	_, err = b.Confirm(ctx, Confirm{Token: t.Token})
	return t, err
}

// Trials are the change that is pending and what became of the one before.
type Trials struct {
	Pending *Pending `json:"pending,omitempty"`
	Last    *Outcome `json:"last,omitempty"`
}

// End is how a trial ended.
type End string

// The ends.
const (
	EndConfirmed   End = "confirmed"
	EndUnconfirmed End = "unconfirmed" // nobody confirmed it in time
	EndCanceled    End = "canceled"
	EndFailed      End = "failed"      // a step failed, or a service did not take it
	EndInterrupted End = "interrupted" // netcfgd ended, or the power was cut
)

// Outcome is what became of a change that was tried.
type Outcome struct {
	ID     string    `json:"id"`
	Author string    `json:"author,omitempty"`
	Via    Via       `json:"via,omitempty"`
	Why    string    `json:"why,omitempty"`
	Name   string    `json:"name,omitempty"` // of the file
	Time   time.Time `json:"time"`           // when it ended; if nobody was there to see it, when the change began
	End    End       `json:"end"`
	By     string    `json:"by,omitempty"`     // who canceled it
	Detail string    `json:"detail,omitempty"` // what failed
}

// String says why the change is in force, or is not.
func (o *Outcome) String() string {
	switch o.End {
	case EndConfirmed:
		return "it was confirmed"
	case EndUnconfirmed:
		return "it was undone: nobody confirmed it in time"
	case EndCanceled:
		return "it was undone: " + somebody(o.By) + " canceled it"
	case EndInterrupted:
		return "it was undone: netcfgd ended, or the power was cut, before anybody confirmed it"
	}
	return "it was undone: " + o.Detail
}

// Busy says that another change is pending, and whose.
type Busy struct{ Pending Pending }

func (b *Busy) Error() string {
	p := &b.Pending
	return fmt.Sprintf("a change by %s (%s) is pending for another %s: it must be confirmed, canceled or undone first", somebody(p.Author), p.Via, p.Left)
}

func somebody(author string) string {
	if author == "" {
		return "somebody"
	}
	return author
}

var (
	// ErrDenied says that somebody may not confirm a change, or not like that.
	ErrDenied = errors.New("not allowed")
	// ErrStranger says that nobody is known who asks.
	ErrStranger = errors.New("not let in")
	// ErrTooEarly says that a change cannot be confirmed yet.
	ErrTooEarly = errors.New("too early")
)

// Tell makes an error that is kind and says what err says.
func Tell(kind, err error) error { return &told{err.Error(), kind} }
