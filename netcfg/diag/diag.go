// Package diag tells the author of a configuration file what is wrong with it:
// where, what, and what to do next. It never decides what is wrong.
package diag

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Pos is a place in a configuration file. Line and Col count from 1; Col counts
// characters. The zero Pos means "nowhere in particular", such as a missing file.
type Pos struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Severity says whether a problem stops the configuration from being used.
type Severity uint8

// The severities. The zero value is Error, so that forgetting to set one never
// lets a bad file through.
const (
	Error   Severity = iota // the configuration is refused
	Warning                 // the configuration is used; somebody should look
)

// String says it in a word.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(text []byte) error {
	for _, v := range []Severity{Error, Warning} {
		if string(text) == v.String() {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is no severity", text)
}

// A Problem is one thing wrong with a configuration file. Its text follows the
// compiler convention (file:line:col: key: message) so that editors can jump to it.
type Problem struct {
	Pos      Pos      `json:"pos"`
	Key      string   `json:"key"`            // dotted path of the offending key: zones.iot.vlan
	Msg      string   `json:"msg"`            // what is wrong: lower case, no full stop, names the bad value
	Hint     string   `json:"hint,omitempty"` // what to do: one imperative sentence; "" if there is no good advice
	Severity Severity `json:"severity"`
}

func (p *Problem) Error() string {
	s := p.Pos.String() + ": "
	if p.Severity == Warning {
		s += p.Severity.String() + ": "
	}
	if p.Key != "" {
		s += p.Key + ": "
	}
	s += p.Msg
	if p.Hint != "" {
		s += "\n\thint: " + p.Hint
	}
	return s
}

// A List collects every problem, so that an author fixes a file in one round
// and not one error at a time.
type List []*Problem

// Add records a problem that stops the configuration from being used.
func (l *List) Add(pos Pos, key, msg, hint string) {
	*l = append(*l, &Problem{Pos: pos, Key: key, Msg: msg, Hint: hint})
}

// Warn records a problem that does not.
func (l *List) Warn(pos Pos, key, msg, hint string) {
	*l = append(*l, &Problem{Pos: pos, Key: key, Msg: msg, Hint: hint, Severity: Warning})
}

// Sorted returns the problems in file order.
func (l List) Sorted() List {
	return slices.SortedStableFunc(slices.Values(l), func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
}

// Warnings returns the problems that are only warnings, in file order.
func (l List) Warnings() List {
	return slices.DeleteFunc(l.Sorted(), func(p *Problem) bool { return p.Severity != Warning })
}

// Err returns nil if the list holds nothing worse than warnings, and otherwise
// one error holding every error in file order. Callers reach a single one with
// [errors.AsType].
func (l List) Err() error {
	var errs []error
	for _, p := range l.Sorted() {
		if p.Severity == Error {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}
