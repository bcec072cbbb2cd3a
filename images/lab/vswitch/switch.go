// Package vswitch is an Ethernet switch with VLANs in user space, for machines whose
// kernel has no 802.1Q: between TAP devices in the namespaces of clients and the
// network cards of virtual machines.
//
// It never passes a frame from one VLAN to another, and a port that is slow or dead
// never makes another one wait: what does not fit in its queue is dropped and
// counted.
package vswitch

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// queueLen is how many frames may wait to leave by a port. With frames of 1,514
// bytes at 100 Mbit/s they are 60 ms.
const queueLen = 512

// Switch is a running switch. Its methods may be called concurrently.
type Switch struct {
	mu     sync.Mutex
	bridge Bridge
	ports  []*Port
	closed bool
	wg     sync.WaitGroup
}

// Port is one of a switch's ports.
type Port struct {
	Name string

	sw       *Switch
	number   int
	cable    *cable // nil: unplugged
	counters Counters
	watch    func(in bool, frame []byte)
}

// cable is a link in a port.
type cable struct {
	link  Link
	queue chan []byte
	done  chan struct{} // closed when it is pulled out
}

// Link is what a port's cable leads to.
type Link interface {
	// Read returns the next frame, in memory of its own. An error ends the link.
	Read() ([]byte, error)
	// Write sends frames. It may block; an error ends the link.
	Write(frames [][]byte) error
	// Close makes the others return.
	Close() error
}

// Counters are what a port has seen, in frames and bytes.
type Counters struct {
	In, Out           uint64 // frames that were passed on
	InBytes, OutBytes uint64
	// Dropped counts by reason: frames that came in by the port, and for QueueFull
	// and Unplugged those that should have left by it.
	Dropped [reasons]uint64
}

// String lists what is not zero.
func (c Counters) String() string {
	s := fmt.Sprintf("in %d, out %d", c.In, c.Out)
	for r, n := range c.Dropped {
		if n > 0 {
			s += fmt.Sprintf(", %s %d", Reason(r), n)
		}
	}
	return s
}

// New returns a switch without ports. Close ends it.
func New() *Switch { return &Switch{} }

// AddPort adds a port without a cable.
func (s *Switch) AddPort(name string, m Mode) (*Port, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("port %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Port{Name: name, sw: s, number: s.bridge.AddPort()}
	s.ports = append(s.ports, p)
	return p, s.bridge.SetMode(p.number, m)
}

// Close pulls out all cables and returns when nothing runs any more.
func (s *Switch) Close() error {
	var errs []error
	s.mu.Lock()
	s.closed = true
	for _, p := range s.ports {
		errs = append(errs, p.pull())
	}
	s.mu.Unlock()
	s.wg.Wait()
	return errors.Join(errs...)
}

// SetMode changes what the port takes. It holds for the next frame.
func (p *Port) SetMode(m Mode) error {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if err := p.sw.bridge.SetMode(p.number, m); err != nil {
		return fmt.Errorf("port %s: %w", p.Name, err)
	}
	return nil
}

// Counters returns what the port has counted so far.
func (p *Port) Counters() Counters {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.counters
}

// Watch has f called with every frame that comes in by the port or is queued to leave
// by it, whatever becomes of it, as it is on the wire. f must not block, nor change
// or keep the frame, nor call the switch. Nil ends the watching.
func (p *Port) Watch(f func(in bool, frame []byte)) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	p.watch = f
}

// Plug connects a link, in place of the one that may be there, and takes it over:
// it is closed when it is pulled out or ends by itself.
func (p *Port) Plug(l Link) {
	c := &cable{link: l, queue: make(chan []byte, queueLen), done: make(chan struct{})}
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	_ = p.pull() // the old one is broken at worst
	if p.sw.closed {
		_ = l.Close()
		return
	}
	p.cable = c
	p.sw.wg.Go(func() {
		for {
			frame, err := l.Read()
			if err != nil {
				p.lost(c)
				return
			}
			p.receive(c, frame)
		}
	})
	p.sw.wg.Go(func() { p.transmit(c) })
}

// Unplug pulls the cable out, if there is one.
func (p *Port) Unplug() error {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.pull()
}

// pull takes the cable out and forgets who was at its end. The switch is locked.
func (p *Port) pull() error {
	c := p.cable
	if c == nil {
		return nil
	}
	p.cable = nil
	p.sw.bridge.Forget(p.number)
	close(c.done)
	return c.link.Close()
}

// lost takes a cable out whose other end is gone, if nobody else has.
func (p *Port) lost(c *cable) {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	if p.cable == c {
		_ = p.pull() // there is nobody to tell
	}
}

// Plugged reports whether there is a cable with somebody at its other end.
func (p *Port) Plugged() bool {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.cable != nil
}

// receive passes on a frame that came in.
func (p *Port) receive(c *cable, frame []byte) {
	s := p.sw
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.cable != c {
		return
	}
	if p.watch != nil {
		p.watch(true, frame)
	}
	out, drop := s.bridge.Forward(p.number, frame, time.Now())
	if drop != Passed {
		p.counters.Dropped[drop]++
		return
	}
	p.counters.In++
	p.counters.InBytes += uint64(len(frame))
	for _, o := range out {
		s.ports[o.Port].send(o.Frame)
	}
}

// Send lets a frame leave by the port as it is, whatever the port's mode: what a
// switch might send that is broken, badly set up, or in somebody else's hands. It
// reports whether there was room for it in the queue.
func (p *Port) Send(frame []byte) bool {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	return p.send(frame)
}

// send queues a frame. The switch is locked.
func (p *Port) send(frame []byte) bool {
	if p.watch != nil {
		p.watch(false, frame)
	}
	if p.cable == nil {
		p.counters.Dropped[Unplugged]++
		return false
	}
	select {
	case p.cable.queue <- frame:
		p.counters.Out++
		p.counters.OutBytes += uint64(len(frame))
		return true
	default:
		p.counters.Dropped[QueueFull]++
		return false
	}
}

// transmit sends what is queued, all that is there at once.
func (p *Port) transmit(c *cable) {
	batch := make([][]byte, 0, 64)
	for {
		select {
		case frame := <-c.queue:
			batch = append(batch[:0], frame)
		case <-c.done:
			return
		}
	fill:
		for len(batch) < cap(batch) {
			select {
			case frame := <-c.queue:
				batch = append(batch, frame)
			default:
				break fill
			}
		}
		if err := c.link.Write(batch); err != nil {
			p.lost(c)
			return
		}
		clear(batch)
	}
}
