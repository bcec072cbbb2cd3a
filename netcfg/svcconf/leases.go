package svcconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxLeases is how many leases a [Leases] holds at most.
const MaxLeases = 1 << 16

// UnmarshalJSON implements [json.Unmarshaler]. It takes no more than [MaxLeases]
// and no unknown fields, wherever it is called from: a lease of two bytes of text
// takes a hundred and more in memory, and dhcpd, which writes them, talks to
// strangers.
func (l *Leases) UnmarshalJSON(text []byte) error {
	var v struct {
		Leases leaseList `json:"leases"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return err
	}
	l.Leases = v.Leases
	return nil
}

// leaseList reads a JSON array one lease at a time.
type leaseList []Lease

func (l *leaseList) UnmarshalJSON(text []byte) error {
	*l = nil
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	switch t, err := dec.Token(); {
	case err != nil:
		return err
	case t == nil: // null, as an empty slice may be written
		return nil
	case t != json.Delim('['):
		return errors.New("leases are no list")
	}
	*l = leaseList{}
	for dec.More() {
		if len(*l) == MaxLeases {
			return fmt.Errorf("more than %d leases", MaxLeases)
		}
		var v Lease
		if err := dec.Decode(&v); err != nil {
			return err
		}
		*l = append(*l, v)
	}
	_, err := dec.Token()
	return err
}
