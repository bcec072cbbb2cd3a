//go:build linux

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// qmp speaks QEMU's machine protocol, docs/interop/qmp-spec.txt in its source.
type qmp struct {
	conn io.ReadWriteCloser
	off  <-chan struct{} // closed when QEMU has ended

	mu       sync.Mutex
	next     int
	pending  map[int]chan qmpMessage
	greeting chan struct{} // closed when QEMU has said hello
	events   []string
	seen     int
	changed  chan struct{} // closed and replaced when an event comes
}

// qmpMessage is anything that QEMU sends.
type qmpMessage struct {
	Greeting *struct{}  `json:"QMP"`
	Event    string     `json:"event"`
	ID       int        `json:"id"`
	Error    *qmpRefuse `json:"error"`
}

type qmpRefuse struct {
	Description string `json:"desc"`
}

func newQMP(conn io.ReadWriteCloser, off <-chan struct{}) *qmp {
	q := &qmp{conn: conn, off: off, pending: make(map[int]chan qmpMessage), greeting: make(chan struct{}), changed: make(chan struct{})}
	go q.read() // until QEMU ends
	return q
}

func (q *qmp) read() {
	defer q.conn.Close()
	dec := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			return
		}
		q.mu.Lock()
		switch {
		case m.Greeting != nil:
			close(q.greeting)
		case m.Event != "":
			q.events = append(q.events, m.Event)
			close(q.changed)
			q.changed = make(chan struct{})
		case q.pending[m.ID] != nil:
			q.pending[m.ID] <- m
			delete(q.pending, m.ID)
		}
		q.mu.Unlock()
	}
}

// greet waits until QEMU is there and says that we understand each other.
func (q *qmp) greet(ctx context.Context) error {
	select {
	case <-q.greeting:
	case <-q.off:
		return ErrOff
	case <-ctx.Done():
		return ctx.Err()
	}
	return q.execute(ctx, "qmp_capabilities", nil)
}

// execute gives an order and waits until QEMU has carried it out. The error wraps
// [ErrOff] if the machine is off.
func (q *qmp) execute(ctx context.Context, command string, arguments any) error {
	answer := make(chan qmpMessage, 1)
	q.mu.Lock()
	q.next++
	id := q.next
	q.pending[id] = answer
	order := map[string]any{"execute": command, "id": id}
	if arguments != nil {
		order["arguments"] = arguments
	}
	line, err := json.Marshal(order)
	if err == nil {
		_, err = q.conn.Write(append(line, '\n'))
	}
	q.mu.Unlock()
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", command, err), q.offNow())
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: QEMU says: %s", command, m.Error.Description)
		}
		return nil
	case <-q.off:
		return fmt.Errorf("%s: %w", command, ErrOff)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, ctx.Err())
	}
}

func (q *qmp) offNow() error {
	select {
	case <-q.off:
		return ErrOff
	default:
		return nil
	}
}

func (q *qmp) awaitEvent(ctx context.Context, names []string) (string, error) {
	for {
		q.mu.Lock()
		for q.seen < len(q.events) {
			e := q.events[q.seen]
			q.seen++
			if slices.Contains(names, e) {
				q.mu.Unlock()
				return e, nil
			}
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-q.off:
			return "", fmt.Errorf("waiting for %v: %w", names, ErrOff)
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %v: %w", names, ctx.Err())
		}
	}
}
