// Package plan turns the difference between two network states into steps: what
// to do, in an order that closes doors before it opens any, each step with a
// sentence for people, a risk, and the step that takes it back.
//
// It is pure. It never looks at a kernel and never changes one: package apply
// carries a plan out.
package plan

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Plan is a list of steps to be taken in order. A plan without steps says that
// there is nothing to do.
type Plan struct {
	Steps []Step `json:"steps"`
}

// Step is one change to the kernel, with what people need to know about it.
type Step struct {
	Change   Change
	Sentence string // what is done: "give trunk.40 the address 192.168.40.1/24 (zone iot)"
	Risk     Risk
	subject  subject
}

// Level is how much a step can disturb.
type Level uint8

// The levels of risk, in rising order.
const (
	None       Level = iota // nobody notices
	Interrupts              // something stops working, for a moment or for good
	Management              // whoever manages the box may lose their connection to it
)

// Risk says what a step can disturb.
type Risk struct {
	Level Level  `json:"level"`
	What  string `json:"what,omitempty"` // what is disturbed: "zone iot"; "" for None
}

// Worst returns the risk of the most dangerous step; the first of several.
func (p *Plan) Worst() Risk {
	var worst Risk
	for _, s := range p.Steps {
		if s.Risk.Level > worst.Level {
			worst = s.Risk
		}
	}
	return worst
}

// Undo returns the step that takes s back, and false if there is none: then only
// a plan to an earlier state helps. Steps are undone in reverse order.
func (s Step) Undo() (Step, bool) {
	c, ok := s.Change.inverse()
	if !ok {
		return Step{}, false
	}
	return newStep(c, s.subject), true
}

// String is the plan for people: a numbered line per step.
func (p *Plan) String() string {
	if len(p.Steps) == 0 {
		return "nothing to do\n"
	}
	var b strings.Builder
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, s)
	}
	return b.String()
}

// String is the sentence, followed by the risk if there is one.
func (s Step) String() string {
	if s.Risk.Level == None {
		return s.Sentence
	}
	return s.Sentence + " [" + s.Risk.String() + "]"
}

func (r Risk) String() string {
	switch r.Level {
	case Interrupts:
		return "interrupts " + r.What
	case Management:
		return "management: may cut off " + r.What
	}
	return "no risk"
}

// stepJSON is a step in the API. The content of rulesets is left out: a client has
// no use for it, and netcfgd never carries out a step that it did not plan itself.
type stepJSON struct {
	Op       Op              `json:"op"`
	Change   json.RawMessage `json:"change"`
	Sentence string          `json:"sentence"`
	Risk     Risk            `json:"risk"`
	Subject  subject         `json:"subject,omitzero"`
}

// MarshalJSON implements [json.Marshaler].
func (s Step) MarshalJSON() ([]byte, error) {
	change, err := json.Marshal(s.Change)
	if err != nil {
		return nil, err
	}
	return json.Marshal(stepJSON{s.Change.Op(), change, s.Sentence, s.Risk, s.subject})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Step) UnmarshalJSON(data []byte) error {
	var j stepJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	c, err := decodeChange(j.Op, j.Change)
	if err != nil {
		return fmt.Errorf("step %q: %w", j.Op, err)
	}
	*s = Step{c, j.Sentence, j.Risk, j.Subject}
	return nil
}

var levelNames = [...]string{None: "none", Interrupts: "interrupts", Management: "management"}

// MarshalText implements [encoding.TextMarshaler].
func (l Level) MarshalText() ([]byte, error) { return []byte(levelNames[l]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Level) UnmarshalText(b []byte) error {
	for i, name := range levelNames {
		if name == string(b) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("unknown risk %q", b)
}
