//go:build linux

package export

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export/alert"
	"bulkhead/services/flow/record"
)

const (
	maxEvents  = 256  // that wait while somebody is being told
	maxNtfy    = 3900 // bytes of a message: what is above 4096 becomes a file
	alertRetry = 15 * time.Minute
)

// alerter tells one receiver of events.
type alerter struct {
	conf   svcconf.AlertTarget
	box    string
	zone   *time.Location
	log    *slog.Logger
	peer   *peer
	client *http.Client
	gate   *alert.Gate
	events chan record.Event
	state  state
}

func newAlerter(log *slog.Logger, box string, zone *time.Location, c svcconf.AlertTarget) (*alerter, error) {
	p, err := newPeer(c.To, c.Token, c.Password, c.To.Path) // the path may be a secret as well
	if err != nil {
		return nil, err
	}
	rules := alert.Rules{Again: time.Duration(c.Again), Limit: c.Limit, QuietFrom: c.QuietFrom, QuietTo: c.QuietTo, Zone: zone}
	for _, kind := range c.Events {
		rules.Kinds = append(rules.Kinds, record.Kind(kind))
	}
	return &alerter{
		conf: c, box: box, zone: zone, log: log.With("alert", c.Name), peer: p, client: p.client(),
		gate: alert.NewGate(rules), events: make(chan record.Event, maxEvents),
	}, nil
}

// put queues an event and never waits.
func (a *alerter) put(e record.Event) {
	select {
	case a.events <- e:
	default:
		a.state.lose(1)
	}
}

// run tells of events until ctx ends.
func (a *alerter) run(ctx context.Context) {
	defer a.client.CloseIdleConnections()
	var notice *alert.Notice // that is to be told
	wait := time.Duration(0) // after it failed
	for {
		var next time.Time
		if notice == nil {
			notice, next = a.gate.Take(time.Now())
		}
		var again <-chan time.Time
		switch {
		case notice != nil:
			if a.try(ctx, notice) {
				notice, wait = nil, 0
				continue
			}
			wait = min(max(2*wait, retryFirst), alertRetry)
			again = time.After(wait)
		case !next.IsZero():
			again = time.After(time.Until(next))
		}
		if !a.listen(ctx, notice != nil, again) {
			return
		}
	}
}

// listen takes events until it is time to go on: the first does, unless a notice waits
// that could not be told. It reports whether ctx has not ended.
func (a *alerter) listen(ctx context.Context, failed bool, again <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-again:
			return true
		case e := <-a.events:
			if a.gate.Add(time.Now(), e) && !failed {
				return true
			}
		}
	}
}

// try tells once, and reports whether it was heard.
func (a *alerter) try(ctx context.Context, n *alert.Notice) bool {
	_, err := a.tell(ctx, n)
	if ctx.Err() != nil {
		return false
	}
	if a.state.note(err, 1) && err != nil {
		a.log.Error("tell", "to", a.conf.To.Address, "err", err)
	}
	return err == nil
}

// tell tells of events, and returns the answer.
func (a *alerter) tell(ctx context.Context, n *alert.Notice) (answer string, err error) {
	path := a.conf.To.Path
	if path == "" {
		path = "/"
	}
	switch a.conf.By {
	case model.ByWebhook:
		body, err := n.Webhook(a.box, a.zone)
		if err != nil {
			return "", err
		}
		return a.peer.post(ctx, a.client, path, header("application/json", a.conf.Token), body)
	case model.ByNtfy:
		h := header("text/plain; charset=utf-8", a.conf.Token)
		h.Set("Title", n.Title(a.box)) // https://docs.ntfy.sh/publish
		h.Set("Priority", "default")
		if n.Urgent() {
			h.Set("Priority", "high")
		}
		text := n.Text(a.zone)
		return a.peer.post(ctx, a.client, path, h, []byte(strings.ToValidUTF8(text[:min(len(text), maxNtfy)], "")))
	case model.ByMail:
		now := time.Now()
		message := n.Mail(a.box, a.conf.From, a.conf.Recipients, now, a.zone, rand.Text())
		answer, err := a.peer.mail(ctx, a.box, a.conf, message)
		if err != nil {
			err = a.peer.hide(err)
		}
		return answer, err
	}
	return "", fmt.Errorf("%q is not a way to tell", a.conf.By)
}

// test tells that it is a test, and how that went.
func (a *alerter) test(ctx context.Context) svcconf.AlertAnswer {
	answer, err := a.tell(ctx, alert.Test(time.Now()))
	out := svcconf.AlertAnswer{Name: a.conf.Name, Answer: answer}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func (a *alerter) status() svcconf.TargetStatus {
	s := a.state.get()
	s.Name, s.Alert, s.Queued = a.conf.Name, true, len(a.events)
	return s
}
