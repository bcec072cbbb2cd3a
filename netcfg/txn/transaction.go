package txn

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"time"
)

// Stages is what a [Transaction] needs of a [Store].
type Stages interface {
	Stage(Trial) error     // durable before it returns
	Promote(Outcome) error // makes the staged change the confirmed one, atomically
	Note(Outcome) error    // makes durable what becomes of the staged change
	Discard() error        // forgets the staged change
}

// Phase is where a [Transaction] is.
type Phase string

// The phases, in their order. From each, the next is the first again if the trial
// fails.
const (
	Idle    Phase = ""        // no change is on trial
	Trying  Phase = "trying"  // it is being put into force
	Pending Phase = "pending" // it is in force and waits for its author
	Undoing Phase = "undoing" // what was before is being put into force
)

// Errors of [Transaction].
var (
	ErrBusy       = errors.New("a change is pending")
	ErrNone       = errors.New("no change is pending")
	ErrNotYet     = errors.New("the change is not in force yet")
	ErrOver       = errors.New("the change is being undone")
	ErrToken      = errors.New("the token is not that of the pending change")
	ErrIdentity   = errors.New("only who made the change may confirm it")
	ErrConnection = errors.New("the connection is older than the change: a new one must show that the box can still be reached")
)

// A Transaction is the one change that is on trial, if any:
//
//	idle -> trying -> pending -> idle, confirmed
//	           \         \-> undoing -> idle, as before
//	            \----------> undoing
//
// It decides and keeps, and leaves doing to its owner, who calls its methods in this
// order, one at a time. Whatever is called, and wherever power is lost, what boots is
// the configuration from before unless Confirm succeeded.
type Transaction struct {
	store    Stages
	phase    Phase
	trial    Trial
	deadline time.Time     // monotonic
	effect   time.Duration // since boot: when the change was in force
}

// New returns a transaction that is idle.
func New(s Stages) *Transaction { return &Transaction{store: s} }

// Phase returns where it is.
func (t *Transaction) Phase() Phase { return t.phase }

// Trial returns the change that is on trial, unless the transaction is idle.
func (t *Transaction) Trial() *Trial { return &t.trial }

// Left is how long the author has to confirm; negative if the time is over.
func (t *Transaction) Left() time.Duration { return time.Until(t.deadline) }

// Begin arms the clock and stages a change, which may be put into force then. The
// error is [ErrBusy] if another one is on trial.
func (t *Transaction) Begin(tr Trial, window time.Duration) error {
	if t.phase != Idle {
		return ErrBusy
	}
	deadline := time.Now().Add(window)
	if err := t.store.Stage(tr); err != nil {
		return fmt.Errorf("stage the configuration: %w", err)
	}
	t.phase, t.trial, t.deadline = Trying, tr, deadline
	return nil
}

// InForce says that the change took effect everywhere, at a time since boot. A
// connection that began later can confirm it.
func (t *Transaction) InForce(at time.Duration) {
	if t.phase == Trying {
		t.phase, t.effect = Pending, at
	}
}

// Overdue reports whether the author's time is over. The change is to be undone then.
func (t *Transaction) Overdue() bool {
	return (t.phase == Trying || t.phase == Pending) && t.Left() <= 0
}

// Confirmation is somebody's word that the box can be reached.
type Confirmation struct {
	Token     string
	Identity  string        // of who gives it, as of who made the change
	Connected time.Duration // since boot: when the connection began that it came over
}

// Confirm makes the change the confirmed one, at a time, if c is its author's and came
// over a connection that began after the change. With any of the errors of this
// package nothing is changed. With another error it could not be kept, and is to be
// undone.
func (t *Transaction) Confirm(c Confirmation, now time.Time) error {
	switch {
	case t.phase == Idle:
		return ErrNone
	case t.phase == Undoing, t.Overdue():
		return ErrOver
	case subtle.ConstantTimeCompare([]byte(Hash(c.Token)), []byte(t.trial.Token)) != 1:
		return ErrToken
	case c.Identity != t.trial.Identity:
		return ErrIdentity
	case t.phase == Trying:
		return ErrNotYet
	case c.Connected <= t.effect:
		return ErrConnection
	}
	if err := t.store.Promote(t.trial.Outcome(Confirmed, now)); err != nil {
		return fmt.Errorf("confirm the configuration: %w", err)
	}
	t.phase = Idle
	return nil
}

// Undo notes why the change is undone. From now on nobody can confirm it. An error
// says that only the reason is not kept.
func (t *Transaction) Undo(o Outcome) error {
	if t.phase == Idle || t.phase == Undoing {
		return ErrNone
	}
	t.phase = Undoing
	return t.store.Note(o)
}

// Undone says that what was before is in force. An error says that the change is
// still on disk, from where the next Begin, or the next start, removes it.
func (t *Transaction) Undone() error {
	if t.phase != Undoing {
		return ErrNone
	}
	t.phase = Idle
	return t.store.Discard()
}
