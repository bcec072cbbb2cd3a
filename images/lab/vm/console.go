//go:build linux

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Console is the serial line of a machine.
type Console struct {
	in  io.Writer
	log io.Writer

	mu      sync.Mutex
	text    []byte
	read    int // how much of it Await has passed
	ended   bool
	changed chan struct{} // closed and replaced when any of the above changes
}

// maxText bounds what is kept of what the machine wrote, in bytes. A guest that
// floods its line loses its oldest text, read or not.
const maxText = 8 << 20

// ErrOff says that the machine is switched off.
var ErrOff = errors.New("the machine is off")

func newConsole(log io.Writer) *Console { return &Console{log: log, changed: make(chan struct{})} }

// Write takes what the machine sends.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log != nil {
		_, _ = c.log.Write(b) // a full disk is no reason to stop the machine
	}
	c.text = append(c.text, b...)
	if over := len(c.text) - maxText; over > 0 {
		c.text = append(c.text[:0], c.text[over:]...)
		c.read = max(0, c.read-over)
	}
	c.wake()
	return len(b), nil
}

// end says that nothing more will come.
func (c *Console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.wake()
}

// wake is called with the lock held.
func (c *Console) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Await returns the first match of the pattern, with its groups, in what the machine
// has sent since the end of the last match, and waits for it if need be. A pattern
// must not match the beginning of what it means: it is tried on every piece that
// comes. The error wraps [ErrOff] if the machine ended first, and holds its last
// lines.
func (c *Console) Await(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		c.mu.Lock()
		if at := pattern.FindSubmatchIndex(c.text[c.read:]); at != nil {
			groups := make([]string, len(at)/2)
			for i := range groups {
				if at[2*i] >= 0 {
					groups[i] = string(c.text[c.read+at[2*i] : c.read+at[2*i+1]])
				}
			}
			c.read += at[1]
			c.mu.Unlock()
			return groups, nil
		}
		ended, changed := c.ended, c.changed
		c.mu.Unlock()
		if ended {
			return nil, fmt.Errorf("waiting for %q on the console: %w\n%s", pattern, ErrOff, c.Tail(20))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q on the console: %w\n%s", pattern, ctx.Err(), c.Tail(20))
		}
	}
}

// Send types text on the line.
func (c *Console) Send(text string) error {
	if _, err := io.WriteString(c.in, text); err != nil {
		return fmt.Errorf("type on the console: %w", err)
	}
	return nil
}

// Text is all that the machine has sent.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Tail is the last lines of it.
func (c *Console) Tail(n int) string {
	lines := strings.SplitAfter(strings.TrimRight(c.Text(), "\r\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
