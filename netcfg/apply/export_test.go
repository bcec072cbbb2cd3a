//go:build linux

package apply

import (
	"encoding/binary"
	"slices"

	"github.com/mdlayher/netlink"

	"bulkhead/netcfg/state"
)

// Track adds connections to the table, as if they had been seen.
func Track(t *Conntrack, conns []Conn) error {
	const ctaTimeout = 7
	nl, err := t.dial(netlink.Config{})
	if err != nil {
		return err
	}
	defer nl.Close()
	for batch := range slices.Chunk(conns, batchSize) {
		var msgs []netlink.Message
		for _, c := range batch {
			data, err := encodeConn(c)
			if err != nil {
				return err
			}
			data = appendNested(data, ctaTupleReply, c.Reply.append)
			data = appendAttr(data, ctaTimeout, binary.BigEndian.AppendUint32(nil, 600))
			msgs = append(msgs, netlink.Message{
				Header: netlink.Header{Type: ctNew, Flags: netlink.Request | netlink.Create | netlink.Excl},
				Data:   data,
			})
		}
		msgs[len(msgs)-1].Header.Flags |= netlink.Acknowledge
		if msgs, err = nl.SendMessages(msgs); err != nil {
			return err
		}
		if _, err := answers(nl, msgs[len(msgs)-1].Header.Sequence); err != nil {
			return err
		}
	}
	return nil
}

// DecodeConn is decodeConn.
func DecodeConn(data []byte) (Conn, error) { return decodeConn(data) }

// EncodeConn is a message that tells of the connection as the kernel would.
func EncodeConn(c Conn) ([]byte, error) {
	data, err := encodeConn(c)
	if err != nil {
		return nil, err
	}
	data = appendNested(data, ctaTupleReply, c.Reply.append)
	for typ, v := range map[uint16]uint32{ctaMark: c.Mark, ctaStatus: c.Status, ctaID: c.ID} {
		data = appendAttr(data, typ, binary.BigEndian.AppendUint32(nil, v))
	}
	return data, nil
}

// VLANMessage is the request for a VLAN link.
func VLANMessage(l state.Link, parent uint32) ([]byte, error) {
	return vlanMessage(l, parent).MarshalBinary()
}

// DecodeLink is decodeLink without its result.
func DecodeLink(data []byte) error {
	_, err := decodeLink(data)
	return err
}

// LinkRequest is a message of the same layout that the decoder is given.
func LinkRequest(name string) []byte { return linkRequest(name) }
