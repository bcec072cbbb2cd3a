//go:build linux

package export

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export/ipfix"
	"bulkhead/services/export/lines"
	"bulkhead/services/export/syslog"
	"bulkhead/services/flow/record"
)

// templatesAgain is how often templates are repeated over UDP. RFC 7011 section 8.1 asks
// for less; a collector that was started again can read nothing before.
const templatesAgain = time.Minute

// sender takes items to one peer, in its format. After an error, the same items are sent
// again, unless it wraps [errRefused].
type sender interface {
	send(context.Context, []lines.Item) error
	close()
}

func newSender(box string, zones []string, c svcconf.ExportTarget) (sender, error) {
	p, err := newPeer(c.To, c.Token)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Format == model.FormatIPFIX:
		return &ipfixSender{stream: stream{peer: p}, zones: zones}, nil
	case c.Format == model.FormatSyslog:
		return &streamSender{stream{peer: p}, func(it lines.Item) ([]byte, error) { return syslogMessage(box, it, p.Scheme != "udp"), nil }}, nil
	case c.Format == model.FormatJSON && (p.Scheme == "tcp" || p.Scheme == "tls"):
		return &streamSender{stream{peer: p}, func(it lines.Item) ([]byte, error) { return lines.Lines(box, []lines.Item{it}) }}, nil
	case c.Format == model.FormatJSON:
		return newHTTPSender(p, c, "application/x-ndjson", func(items []lines.Item) ([]byte, error) { return lines.Lines(box, items) }), nil
	case c.Format == model.FormatLoki:
		if p.Path == "" {
			p.Path = "/loki/api/v1/push"
		}
		return newHTTPSender(p, c, "application/json", func(items []lines.Item) ([]byte, error) { return lines.Loki(box, items) }), nil
	}
	return nil, fmt.Errorf("%q is not a format", c.Format)
}

func syslogMessage(box string, it lines.Item, framed bool) []byte {
	var m []byte
	if it.Flow != nil {
		m = syslog.Flow(box, it.Flow)
	} else {
		m = syslog.Event(box, it.Event)
	}
	if framed {
		return syslog.Frame(m)
	}
	return m
}

// stream is a connection that is opened when something is to be sent.
type stream struct {
	peer *peer
	conn net.Conn
	gone <-chan struct{} // see [peer.open]
}

// open makes sure that there is a connection, and reports whether it is a new one.
func (s *stream) open(ctx context.Context) (fresh bool, err error) {
	select {
	case <-s.gone:
		s.close()
	default:
	}
	if s.conn != nil {
		return false, nil
	}
	conn, gone, err := s.peer.open(ctx)
	if err != nil {
		return false, s.peer.hide(err)
	}
	s.conn, s.gone = conn, gone
	return true, nil
}

func (s *stream) write(data []byte) error {
	err := s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if err == nil {
		_, err = s.conn.Write(data)
	}
	if err != nil {
		s.close()
	}
	return err
}

func (s *stream) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn, s.gone = nil, nil
	}
}

// streamSender sends a message for each item: a datagram, or a part of the stream.
type streamSender struct {
	stream
	encode func(lines.Item) ([]byte, error)
}

func (s *streamSender) send(ctx context.Context, items []lines.Item) error {
	if _, err := s.open(ctx); err != nil {
		return err
	}
	var all []byte
	for _, it := range items {
		m, err := s.encode(it)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		if s.peer.Scheme != "udp" {
			all = append(all, m...)
			continue
		}
		if err := s.write(m); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return s.write(all)
}

// ipfixSender sends records as messages of IPFIX.
type ipfixSender struct {
	stream
	zones     []string
	enc       *ipfix.Encoder
	templates time.Time // when they were last sent
}

func (s *ipfixSender) send(ctx context.Context, items []lines.Item) error {
	fresh, err := s.open(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var messages [][]byte
	if fresh {
		s.enc = ipfix.New(s.zones...) // a session of its own
	}
	if fresh || s.peer.Scheme == "udp" && now.Sub(s.templates) >= templatesAgain {
		messages = s.enc.Templates(now)
		s.templates = now
	}
	records := make([]record.Record, 0, len(items))
	for _, it := range items {
		records = append(records, *it.Flow)
	}
	for _, m := range append(messages, s.enc.Flows(now, records)...) {
		if err := s.write(m); err != nil {
			return err
		}
	}
	return nil
}

// httpSender sends items in the body of a POST.
type httpSender struct {
	peer   *peer
	client *http.Client
	header http.Header
	encode func([]lines.Item) ([]byte, error)
}

func newHTTPSender(p *peer, c svcconf.ExportTarget, kind string, encode func([]lines.Item) ([]byte, error)) *httpSender {
	return &httpSender{p, p.client(), header(kind, c.Token), encode}
}

func header(kind, token string) http.Header {
	h := http.Header{"Content-Type": {kind}}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	return h
}

func (s *httpSender) send(ctx context.Context, items []lines.Item) error {
	body, err := s.encode(items)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	path := s.peer.Path
	if path == "" {
		path = "/"
	}
	_, err = s.peer.post(ctx, s.client, path, s.header.Clone(), body)
	return err
}

func (s *httpSender) close() { s.client.CloseIdleConnections() }
