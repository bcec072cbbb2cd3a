//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How gokrazy's supervisor treats a service, see FACTS: these exit codes stop it
// for good, all others start it again after the delay.
const (
	exitDone     = 0
	exitDisabled = 125
	restartDelay = time.Second
)

// grace is how long a program may take to end after it was asked to. gokrazy gives
// 20 seconds.
const grace = 5 * time.Second

// maxLog bounds the log file of one program, in bytes.
const maxLog = 8 << 20

// Daemon is a supervised program.
type Daemon struct {
	Name string

	mu       sync.Mutex
	process  *os.Process // nil between two runs
	started  time.Time   // of this run
	runs     int
	changed  chan struct{} // closed and replaced when any of the above changes
	stubborn bool
	log      *logFile
}

// supervise runs a program in the host as gokrazy runs a service, until the
// context ends; the returned channel is closed when the program has, too. Its
// output goes to <name>.log in the world's directory.
func (l *Lab) supervise(ctx context.Context, h *Host, name string, args ...string) (*Daemon, <-chan struct{}, error) {
	log, err := newLogFile(filepath.Join(l.World.Dir, filepath.Base(name)+".log"))
	if err != nil {
		return nil, nil, err
	}
	d := &Daemon{Name: filepath.Base(name), changed: make(chan struct{}), log: log}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer log.Close()
		for {
			code := d.run(ctx, h, name, args)
			fmt.Fprintf(log, "lab: %s ended with code %d\n", d.Name, code)
			if ctx.Err() != nil || code == exitDone || code == exitDisabled {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(restartDelay):
			}
		}
	}()
	return d, done, nil
}

// run runs the program once and returns its exit code, 128 and more for signals.
func (d *Daemon) run(ctx context.Context, h *Host, name string, args []string) int {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	if err := h.Start(cmd); err != nil {
		fmt.Fprintln(d.log, "lab:", err)
		return 1
	}
	d.set(cmd.Process)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { d.stop(ctx, cmd.Process, ended) })
	err := cmd.Wait()
	close(ended)
	wg.Wait()
	d.set(nil)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return exit.ExitCode()
	}
	return 0
}

// stop asks the program to end when the context does. One that does not is made to
// say what it is doing, and killed.
func (d *Daemon) stop(ctx context.Context, p *os.Process, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = p.Signal(s) // it may have ended already
		select {
		case <-ended:
			return
		case <-time.After(grace):
			d.mu.Lock()
			d.stubborn = true
			d.mu.Unlock()
		}
	}
	<-ended
}

// Stubborn reports whether the program had to be forced to end.
func (d *Daemon) Stubborn() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stubborn
}

func (d *Daemon) set(p *os.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.process = p
	if p != nil {
		d.started = time.Now()
		d.runs++
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// PID returns the process ID of the running program, or 0.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return 0
	}
	return d.process.Pid
}

// Kill ends the program with SIGKILL and returns when it has been started again.
func (d *Daemon) Kill(ctx context.Context) (restarted time.Time, err error) {
	d.mu.Lock()
	runs, p := d.runs, d.process
	d.mu.Unlock()
	if p == nil {
		return time.Time{}, fmt.Errorf("%s is not running", d.Name)
	}
	if err := p.Kill(); err != nil {
		return time.Time{}, err
	}
	for {
		d.mu.Lock()
		again, started, changed := d.runs > runs && d.process != nil, d.started, d.changed
		d.mu.Unlock()
		if again {
			return started, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%s was not started again: %w", d.Name, ctx.Err())
		}
	}
}

// Log returns the last lines that the program wrote.
func (d *Daemon) Log(lines int) string { return d.log.tail(lines) }

// logFile is a file that stops growing at maxLog.
type logFile struct {
	mu   sync.Mutex
	file *os.File
	size int
	last []byte // the newest bytes, for tail
}

func newLogFile(path string) (*logFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &logFile{file: f}, nil
}

// Write never fails: a program must not end because its log is full.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(b) <= maxLog {
		n, _ := l.file.Write(b)
		l.size += n
	}
	const keep = 16 << 10
	l.last = append(l.last, b...)
	if over := len(l.last) - keep; over > 0 {
		l.last = append(l.last[:0], l.last[over:]...)
	}
	return len(b), nil
}

func (l *logFile) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.SplitAfter(string(bytes.TrimRight(l.last, "\n")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// Close implements [io.Closer].
func (l *logFile) Close() error { return l.file.Close() }

var _ io.WriteCloser = (*logFile)(nil)
