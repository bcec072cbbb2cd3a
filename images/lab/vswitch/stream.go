package vswitch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
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

// Listen waits at a new unix socket for QEMU, each time it starts, and plugs it into
// the port in place of what was there before. It ends with the switch.
func (p *Port) Listen(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("port %s: %w", p.Name, err)
	}
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.sw.listeners = append(p.sw.listeners, ln)
	p.sw.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil { // closed
				return
			}
			p.Plug(NewStream(conn))
		}
	})
	return nil
}
