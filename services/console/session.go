package console

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// pause is the least time between two drawings, and so between two handfuls of keys:
// noise is read as fast as it can be without heating the box, and the rest is lost.
const pause = 50 * time.Millisecond

// again is when a terminal that did not take the screen is offered it once more.
const again = 10 * time.Second

// session is one person, or nobody, before one terminal.
type session struct {
	name   string // of the terminal
	board  *board
	start  func(*task, string) <-chan report // carries out a task, and says what came of it
	model  model
	shown  []string // what the terminal shows; nil: nobody knows
	redraw bool
	stuck  time.Time // until when the terminal is not offered anything that was not asked for
}

// run shows the box on t, and takes orders, until ctx ends or the terminal does. It
// closes t.
func (s *session) run(ctx context.Context, t terminal) error {
	keys, ended := make(chan []byte), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { ended <- read(ctx, t, keys) }()
	var finished <-chan report
	for {
		world, changed := s.board.look()
		wake := s.model.wait(time.Now())
		err := s.paint(t, &world)
		if !s.stuck.IsZero() && (wake.IsZero() || s.stuck.Before(wake)) {
			wake = s.stuck
		}
		if err == nil {
			sleep(ctx, pause)
			select {
			case <-ctx.Done():
				err = errors.Join(ctx.Err(), s.farewell(t))
			case err = <-ended:
				ended <- err
			case <-changed:
			case <-until(wake):
			case r := <-finished:
				finished = nil
				s.model.done(r)
				s.board.nudge()
			case typed := <-keys:
				if c := s.take(typed, &world); c != nil {
					finished = c
				}
			}
		}
		if err != nil {
			cancel()
			err = errors.Join(err, t.Close()) // wakes the reader
			<-ended
			return err
		}
	}
}

// take hands what was typed to the model.
func (s *session) take(typed []byte, w *world) <-chan report {
	for _, b := range typed {
		do, redraw := s.model.key(b, w, time.Now())
		s.redraw = s.redraw || redraw
		if do != nil {
			// What was typed ahead was typed before anybody saw what comes next.
			return s.start(do, s.name)
		}
	}
	return nil
}

// paint brings the terminal up to date, or notes that it does not take it.
func (s *session) paint(t terminal, w *world) error {
	switch {
	case s.redraw:
		s.shown, s.redraw = nil, false
	case time.Now().Before(s.stuck):
		return nil
	}
	lines := s.model.view(w, t.Size())
	out := draw(s.shown, lines)
	s.shown, s.stuck = lines, time.Time{}
	if out == "" {
		return nil
	}
	_, err := t.Write([]byte(out))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.shown, s.stuck = nil, time.Now().Add(again)
		return nil
	}
	return err
}

// farewell says that what is shown is no longer kept up to date.
func (s *session) farewell(t terminal) error {
	if len(s.shown) == 0 {
		return nil
	}
	lines := slices.Clone(s.shown)
	lines[len(lines)-1] = cut("The console has stopped, or the box restarts.", t.Size().cols-1)
	_, err := t.Write([]byte(draw(s.shown, lines)))
	return err
}

// read passes on what is typed until the terminal ends.
func read(ctx context.Context, t terminal, keys chan<- []byte) error {
	for {
		buf := make([]byte, 256)
		n, err := t.Read(buf)
		if err != nil {
			return err
		}
		select {
		case keys <- buf[:n]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// until is ready at t; never, if t is zero.
func until(t time.Time) <-chan time.Time {
	if t.IsZero() {
		return nil
	}
	return time.After(time.Until(t))
}
