// Package txn takes the box from one configuration to the next so that losing power
// at any instant leaves one of the two, whole. It keeps the confirmed configuration
// and its history on disk, and notices when somebody or something else has changed
// them. It never reads what a configuration says and never touches the kernel.
package txn

import (
	"errors"
	"fmt"
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

// Stages is what [Commit] needs of a [Store].
type Stages interface {
	Stage(Change) error // durable before it returns
	Promote() error     // makes the staged change the confirmed one, atomically
	Discard() error     // forgets the staged change
}

// Commit stages c, applies it, and promotes it. What is not promoted never boots:
// if apply or the promotion fails, revert runs, the change is discarded, and the
// error holds everything that went wrong. Apply returns nil only once it has seen
// that the kernel took the change.
func Commit(s Stages, c Change, apply, revert func() error) error {
	if err := s.Stage(c); err != nil {
		return fmt.Errorf("stage the configuration: %w", err)
	}
	err := apply()
	if err == nil {
		if err = s.Promote(); err == nil {
			return nil
		}
		err = fmt.Errorf("confirm the configuration: %w", err)
	}
	if undo := revert(); undo != nil {
		err = errors.Join(err, fmt.Errorf("go back to the configuration before: %w", undo))
	}
	return errors.Join(err, s.Discard())
}
