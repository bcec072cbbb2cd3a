// Package pcap writes frames into a capture file that other programs read: the format of
// libpcap with times in nanoseconds, draft-ietf-opsawg-pcap.
package pcap

import (
	"encoding/binary"
	"io"
	"time"
)

// MediaType is what such a file is called: application/vnd.tcpdump.pcap of IANA's
// registry.
const MediaType = "application/vnd.tcpdump.pcap"

const (
	magic    = 0xa1b23c4d // of nanoseconds
	major    = 2
	minor    = 4
	ethernet = 1 // LINKTYPE_ETHERNET
)

// Sizes of what stands before all frames, and before each, in bytes.
const (
	HeaderSize = 24
	RecordSize = 16
)

// A Writer writes a file.
type Writer struct {
	w    io.Writer
	snap int
	buf  []byte
}

// NewWriter begins a file of Ethernet frames of which at most snap bytes are kept.
func NewWriter(w io.Writer, snap int) (*Writer, error) {
	b := make([]byte, 0, HeaderSize)
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint16(b, major)
	b = binary.LittleEndian.AppendUint16(b, minor)
	b = append(b, make([]byte, 8)...) // two fields that nobody uses
	b = binary.LittleEndian.AppendUint32(b, uint32(snap))
	b = binary.LittleEndian.AppendUint32(b, ethernet)
	_, err := w.Write(b)
	return &Writer{w: w, snap: snap}, err
}

// Write adds a frame that was seen at t, of which data may be only the beginning; length
// is that of the whole, in bytes. It makes one call of the underlying Write.
func (w *Writer) Write(t time.Time, data []byte, length int) error {
	data = data[:min(len(data), w.snap)]
	b := w.buf[:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(max(length, len(data))))
	w.buf = append(b, data...)
	_, err := w.w.Write(w.buf)
	return err
}
