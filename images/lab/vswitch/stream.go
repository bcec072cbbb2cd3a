package vswitch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// stream speaks what QEMU's network backends "stream" and "socket" speak over a
// connection: each frame is preceded by its length in four bytes, the highest first
// (net_fill_rstate in QEMU's net/net.c).
type stream struct {
	conn io.ReadWriteCloser
	r    *bufio.Reader
	w    *bufio.Writer
}

// maxStream is the longest frame that QEMU sends, NET_BUFSIZE of its net/net.h. A
// longer one means that the two no longer agree on where frames begin.
const maxStream = 4096 + 65536

// NewStream returns a link over a connection to QEMU.
func NewStream(conn io.ReadWriteCloser) Link {
	return &stream{conn, bufio.NewReaderSize(conn, 1<<16), bufio.NewWriterSize(conn, 1<<16)}
}

// Read implements [Link].
func (s *stream) Read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxStream {
		return nil, fmt.Errorf("a frame of %d bytes, more than %d", n, maxStream)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(s.r, frame)
	return frame, err
}

// Write implements [Link].
func (s *stream) Write(frames [][]byte) error {
	var head [4]byte
	for _, f := range frames {
		binary.BigEndian.PutUint32(head[:], uint32(len(f)))
		if _, err := s.w.Write(head[:]); err != nil {
			return err
		}
		if _, err := s.w.Write(f); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

// Close implements [Link].
func (s *stream) Close() error { return s.conn.Close() }
