//go:build linux

package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"time"

	"bulkhead/netcfg/svcconf"
)

// Bounds of one message of mail.
const (
	mailTime  = 30 * time.Second
	maxSMTP   = 64 << 10 // bytes that the server may say
	badServer = "the mail server says more than anybody needs to"
)

// bounded is a connection over which not much can come.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New(badServer)
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// mail hands a message to the mail server, always over TLS, and returns what the server
// says: RFC 5321, RFC 3207, RFC 8314.
func (p *peer) mail(ctx context.Context, box string, c svcconf.AlertTarget, message []byte) (answer string, err error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(mailTime)); err != nil {
		return "", err
	}
	conn = &bounded{conn, maxSMTP}
	if p.Scheme == "smtps" {
		if conn, err = p.secure(ctx, conn); err != nil {
			return "", err
		}
	}
	s, err := smtp.NewClient(conn, p.tls.ServerName)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := p.greet(s, box, c); err != nil {
		return "", err
	}
	if err := s.Mail(c.From); err != nil {
		return "", fmt.Errorf("send from %s: %w", c.From, err)
	}
	refused, last := 0, error(nil)
	for _, to := range c.Recipients {
		if err := s.Rcpt(to); err != nil {
			refused, last = refused+1, fmt.Errorf("send to %s: %w", to, err)
		}
	}
	if refused == len(c.Recipients) {
		return "", last
	}
	w, err := s.Data()
	if err != nil {
		return "", err
	}
	if _, err := w.Write(message); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_ = s.Quit() // the message is the server's by now
	if last != nil {
		return p.plain(fmt.Sprintf("taken, but: %v", last)), nil
	}
	return "taken by the mail server", nil
}

// greet says hello, takes up TLS where that is still to do, and logs in.
func (p *peer) greet(s *smtp.Client, box string, c svcconf.AlertTarget) error {
	if err := s.Hello(box); err != nil {
		return err
	}
	if p.Scheme != "smtps" {
		if ok, _ := s.Extension("STARTTLS"); !ok {
			return errors.New("the mail server has no STARTTLS, and nothing is sent without")
		}
		if err := s.StartTLS(p.tls); err != nil {
			return fmt.Errorf("take up TLS: %w", err)
		}
	}
	if c.User == "" {
		return nil
	}
	if err := s.Auth(smtp.PlainAuth("", c.User, c.Password, p.tls.ServerName)); err != nil {
		return fmt.Errorf("log in as %s: %w", c.User, err)
	}
	return nil
}
