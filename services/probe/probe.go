//go:build linux

// Package probe lets root ask a service what it would answer a client of one zone:
// whether a service works shows in its answers, not in its being there.
//
// The question goes through the service's own request path, but over a unix socket,
// since the box has no client in its zones. The package knows no protocol. It is no
// proof against a service that was taken over: that answers what it likes.
package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"bulkhead/services/sock"
)

// Bounds of one question, in bytes.
const (
	maxZone    = 64 // a zone's name has at most 32
	maxMessage = 4096
)

// Patience is how long a service has for one answer. A name that must be asked for
// upstream takes a few seconds.
const Patience = 10 * time.Second

// atOnce is how many questions are answered at the same time.
const atOnce = 4

// Serve answers at the socket at path until ctx ends, and returns ctx's error. answer
// returns the service's reply to a message from a client of a zone, or nil for none; it
// is called by several goroutines, with a context that ends with [Patience]. Only root
// is answered, and whoever runs this process.
//
// A socket that cannot be opened is logged and tried again: no client of the service
// is worse off without it.
func Serve(ctx context.Context, log *slog.Logger, path string, answer func(ctx context.Context, zone string, msg []byte) []byte) error {
	listen := func() (net.Listener, error) { return sock.Listen(path, -1) }
	return sock.Serve(ctx, listen, atOnce,
		func(c net.Conn) { serveConn(ctx, c, answer) },
		func(err error) { log.Warn("cannot be probed", "err", err) })
}

// serveConn answers one question.
func serveConn(ctx context.Context, c net.Conn, answer func(context.Context, string, []byte) []byte) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() }) // which also ends waiting for the question
	defer stop()
	zone, msg, err := readQuestion(c)
	if err != nil {
		return
	}
	// Who asks hears even of silence, so as not to wait for it.
	_, _ = c.Write(appendField(nil, answer(ctx, zone, msg)))
}

// Ask returns the reply that the service with the socket at path gives a client of a
// zone for a message, nil if it gives none. It waits for [Patience] at most.
func Ask(ctx context.Context, path, zone string, msg []byte) ([]byte, error) {
	if len(zone) > maxZone || len(msg) > maxMessage {
		return nil, fmt.Errorf("probe %s: a zone's name of %d bytes and a message of %d are too long", path, len(zone), len(msg))
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	c, err := sock.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	_, err = c.Write(appendField(appendField(nil, []byte(zone)), msg))
	var reply []byte
	if err == nil {
		reply, err = readField(c, 1<<16-1)
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("probe %s: %w", path, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("probe %s: %w", path, err)
	case len(reply) == 0:
		return nil, nil
	}
	return reply, nil
}

// readQuestion reads a zone's name and a message, each behind its length.
func readQuestion(r io.Reader) (zone string, msg []byte, err error) {
	name, err := readField(r, maxZone)
	if err != nil {
		return "", nil, err
	}
	msg, err = readField(r, maxMessage)
	return string(name), msg, err
}

var errTooLong = errors.New("too long")

// readField reads at most limit bytes behind their number, 16 bits in network order.
func readField(r io.Reader, limit int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > limit {
		return nil, errTooLong
	}
	field := make([]byte, n)
	_, err := io.ReadFull(r, field)
	return field, err
}

// appendField is the inverse of readField. What no length can say is no answer.
func appendField(b, field []byte) []byte {
	if len(field) >= 1<<16 {
		field = nil
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}
