package filter

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

var errShort = errors.New("the frame is too short")

// Match says what a filter means, without a program: whether it takes a frame.
func Match(e Expr, frame []byte) bool {
	ok, err := match(e, frame)
	return ok && err == nil
}

func match(e Expr, frame []byte) (bool, error) {
	switch e := e.(type) {
	case nil:
		return true, nil
	case allOf:
		for _, x := range e {
			if ok, err := match(x, frame); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case anyOf:
		for _, x := range e {
			if ok, err := match(x, frame); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case not:
		ok, err := match(e.e, frame)
		return !ok, err
	case mac:
		if len(frame) < 6 || [6]byte(frame) != e && len(frame) < 12 {
			return false, errShort
		}
		return [6]byte(frame) == e || [6]byte(frame[6:]) == e, nil
	}
	if len(frame) < 14 {
		return false, errShort
	}
	ether, body := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	switch e := e.(type) {
	case protocol:
		if ether != e.ether || e.ip == 0 {
			return ether == e.ether, nil
		}
		if len(body) < 10 {
			return false, errShort
		}
		return body[9] == e.ip, nil
	case host:
		return either(e.Prefix, ether, body)
	case network:
		return either(e.Prefix, ether, body)
	case port:
		return e.match(ether, body)
	}
	panic("there is no such test")
}

func either(p netip.Prefix, ether uint16, body []byte) (bool, error) {
	at, ok := map[uint16][2]int{etherIPv4: {12, 16}, etherARP: {14, 24}}[ether]
	if !ok {
		return false, nil
	}
	for _, at := range at {
		if len(body) < at+4 {
			return false, errShort
		}
		if p.Contains(netip.AddrFrom4([4]byte(body[at:]))) {
			return true, nil
		}
	}
	return false, nil
}

func (e port) match(ether uint16, body []byte) (bool, error) {
	if ether != etherIPv4 {
		return false, nil
	}
	if len(body) < 10 {
		return false, errShort
	}
	if body[9] != 6 && body[9] != 17 || binary.BigEndian.Uint16(body[6:])&0x1fff != 0 {
		return false, nil
	}
	ports := body[min(len(body), int(body[0]&15)*4):]
	for _, at := range []int{0, 2} {
		if len(ports) < at+2 {
			return false, errShort
		}
		if binary.BigEndian.Uint16(ports[at:]) == uint16(e) {
			return true, nil
		}
	}
	return false, nil
}
