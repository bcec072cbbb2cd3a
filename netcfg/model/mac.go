package model

import (
	"fmt"
	"strconv"
)

// MAC is an EUI-48 address.
type MAC [6]byte

// ParseMAC reads six pairs of hexadecimal digits joined by colons.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return MAC{}, fmt.Errorf("%q is not a MAC address such as 52:54:00:12:34:56", s)
	}
	for i := range m {
		v, err := strconv.ParseUint(s[3*i:3*i+2], 16, 8)
		if err != nil || i < 5 && s[3*i+2] != ':' {
			return MAC{}, fmt.Errorf("%q is not a MAC address such as 52:54:00:12:34:56", s)
		}
		m[i] = byte(v)
	}
	return m, nil
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// IsZero reports whether m is the zero MAC, which no device has.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText implements [encoding.TextMarshaler].
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	*m = v
	return err
}
