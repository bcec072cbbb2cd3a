package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// idle is how long nobody types before a session returns to its first screen.
const idle = 3 * time.Minute

// page is what a session shows.
type page int

const (
	home    page = iota
	state        // everything the box knows about itself
	confirm      // what an order will do, and the word it takes
	working      // an order is being carried out
	result       // what came of it
)

// model is one session: what is shown and what was typed. It does nothing but say
// what is to be done.
type model struct {
	page page
	line line
	note string // above the prompt: what was wrong with the last line
	top  int    // which part of the state page is shown
	more bool   // the page goes on below what was shown last

	task    *task
	word    string   // that the task takes, as it was when the page was made
	body    []string // paragraphs of confirm, working, result
	running *task    // being carried out, whatever page is shown

	typed time.Time // when the last key came
}

// key takes a byte that was typed. It returns the task to carry out, or nil, and
// whether to draw the whole screen: messages of the kernel may lie over it.
func (m *model) key(b byte, w *world, now time.Time) (do *task, redraw bool) {
	m.typed = now
	switch m.line.key(b) {
	case escaped:
		m.show(home)
		return nil, true
	case refresh:
		return nil, true
	case entered:
		answer, ok := m.line.take()
		if !ok {
			m.note = "That was too long, and counts for nothing."
			return nil, true
		}
		return m.enter(answer, w), true
	}
	return nil, false
}

// enter takes a complete line.
func (m *model) enter(answer string, w *world) (do *task) {
	m.note = ""
	switch m.page {
	case home:
		m.choose(answer, w)
	case state:
		if !m.more {
			m.show(home)
			return nil
		}
		m.top++
	case confirm:
		switch answer {
		case "":
			note := cmp.Or(m.task.leave, "Nothing was changed.")
			m.show(home)
			m.note = note
		case m.word:
			m.page, m.running = working, m.task
			m.body = []string{m.task.working}
			return m.task
		default:
			m.note = fmt.Sprintf("That is not %q, so nothing happens.", m.word)
		}
	case working: // its result will come
	case result:
		m.show(home)
	}
	return nil
}

// choose takes a line of the first screen.
func (m *model) choose(answer string, w *world) {
	switch i := strings.Index(choices, answer); {
	case answer == "":
	case answer == choices[:1]:
		m.show(state)
	case len(answer) != 1 || i < 0:
		m.note = "Choose a number from 1 to 6, then press Enter."
	case m.running != nil:
		m.note = fmt.Sprintf("Wait: %q is not finished.", m.running.title)
	default:
		m.show(confirm)
		m.task = &tasks[i-1]
		if m.task.title == undoTask.title && w.pending() {
			m.task = &cancelTask
		}
		m.body, m.word = m.task.explain(w)
	}
}

// show turns to a page, with nothing typed.
func (m *model) show(p page) {
	m.page, m.top, m.task, m.word, m.body, m.note = p, 0, nil, "", nil, ""
	m.line.clear()
}

// done shows what came of the task that was carried out, and asks what is to be
// decided then.
func (m *model) done(r report) {
	task := m.running
	m.running = nil
	if next := r.next; next != nil {
		m.show(confirm)
		m.task, m.body = next, append(slices.Clip(r.words), next.asking)
		_, m.word = next.explain(nil)
		return
	}
	m.show(result)
	m.task, m.body = task, r.words
}

// wait returns to the first screen if nobody has typed for long. It returns when
// that would be; the zero time: never, as things are.
func (m *model) wait(now time.Time) time.Time {
	if m.page == home && m.line.String() == "" && m.note == "" {
		return time.Time{}
	}
	if end := m.typed.Add(idle); now.Before(end) {
		return end
	}
	m.show(home)
	return time.Time{}
}
