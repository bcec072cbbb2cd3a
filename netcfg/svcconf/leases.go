package svcconf

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxLeases is how many leases a [Leases] holds at most.
const MaxLeases = 1 << 16

// UnmarshalJSON implements [json.Unmarshaler]. It takes no more than [MaxLeases]
// and no unknown fields, wherever it is called from: a lease of two bytes of text
// takes a hundred and more in memory, and dhcpd, which writes them, talks to
// strangers. For the same reason it goes from lease to lease and never makes another
// copy of the text.
func (l *Leases) UnmarshalJSON(text []byte) error {
	l.Leases = nil
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errors.New("no object"))
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if key != "leases" {
			return fmt.Errorf("unknown field %.40q", key)
		}
		if err := l.list(dec); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// list reads the JSON array of leases.
func (l *Leases) list(dec *json.Decoder) error {
	l.Leases = nil
	switch t, err := dec.Token(); {
	case err != nil:
		return err
	case t == nil: // null, as an empty slice may be written
		return nil
	case t != json.Delim('['):
		return errors.New("leases are no list")
	}
	l.Leases = []Lease{}
	for dec.More() {
		if len(l.Leases) == MaxLeases {
			return fmt.Errorf("more than %d leases", MaxLeases)
		}
		var v Lease
		if err := dec.Decode(&v); err != nil {
			return err
		}
		l.Leases = append(l.Leases, v)
	}
	_, err := dec.Token()
	return err
}
