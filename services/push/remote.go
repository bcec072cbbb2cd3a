package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/svcconf"
)

// Limits of time of one attempt.
const (
	dialTime = 20 * time.Second
	pushTime = 3 * time.Minute
)

// target is where to push what.
type target struct {
	conf svcconf.Push
	head gitrepo.ID
	host ssh.PublicKey
	key  ssh.Signer
}

// newTarget reads a configuration. Its error never quotes the key.
func newTarget(c svcconf.Push) (*target, error) {
	t := &target{conf: c}
	var err error
	if t.head, err = gitrepo.ParseID(c.Head); err != nil {
		return nil, err
	}
	if t.host, _, _, _, err = ssh.ParseAuthorizedKey([]byte(c.KnownHost)); err != nil {
		return nil, errors.New("the remote's known key cannot be read")
	}
	if t.key, err = ssh.ParsePrivateKey([]byte(c.Key)); err != nil {
		return nil, errors.New("the private key cannot be read: make one with ssh-keygen -t ed25519 -N ''")
	}
	return t, nil
}

// algorithms are those by which the known key may be shown.
func (t *target) algorithms() []string {
	if t.host.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256} // not SHA-1
	}
	return []string{t.host.Type()}
}

// push makes the remote's branch end in head, if it ends in one of its ancestors.
func (t *target) push(ctx context.Context) error {
	repo, err := gitrepo.OpenRead(t.conf.Repository)
	if err != nil {
		return err
	}
	defer repo.Close()
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	client, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	if err := t.talk(client, repo); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	}
	return nil
}

func (t *target) dial(ctx context.Context) (*ssh.Client, error) {
	addr := t.conf.Remote.String()
	conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: t.conf.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(t.key)},
		HostKeyCallback: t.known, HostKeyAlgorithms: t.algorithms(),
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	return ssh.NewClient(c, channels, requests), nil
}

// known lets in nobody but the host whose key is in the configuration.
func (t *target) known(_ string, _ net.Addr, key ssh.PublicKey) error {
	if string(key.Marshal()) != string(t.host.Marshal()) {
		return fmt.Errorf("the remote is not who it was: it shows %s, and known-host in the configuration is %s",
			ssh.FingerprintSHA256(key), ssh.FingerprintSHA256(t.host))
	}
	return nil
}

// talk speaks git's protocol with the remote's git-receive-pack.
func (t *target) talk(client *ssh.Client, repo *gitrepo.Repo) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	in, err1 := session.StdinPipe()
	out, err2 := session.StdoutPipe()
	said := &head{left: 4 << 10}
	session.Stderr = said
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	// The path holds nothing that a shell gives a meaning to: conf sees to that.
	if err := session.Start("git-receive-pack '" + t.conf.Path + "'"); err != nil {
		return err
	}
	if err := t.send(in, newLines(out), repo); err != nil {
		session.Close()
		_ = session.Wait() // for what it said
		if text := said.String(); text != "" {
			return fmt.Errorf("%w: %s", err, printable(text))
		}
		return err
	}
	return nil
}

func (t *target) send(in io.WriteCloser, answers *lines, repo *gitrepo.Repo) error {
	tip, err := advertised(answers)
	if err != nil {
		return err
	}
	if tip == t.head {
		_, err := io.WriteString(in, flush) // nothing to do
		return errors.Join(err, in.Close())
	}
	commits, cut, err := repo.Since(t.head, tip)
	if errors.Is(err, gitrepo.ErrDiverged) {
		return fmt.Errorf("somebody else has pushed to the remote: its %w; give the box a repository of its own", err)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(in, command(tip, t.head, cut)); err != nil {
		return err
	}
	if err := repo.WritePack(in, commits); err != nil {
		return err
	}
	return errors.Join(in.Close(), report(answers))
}

// head keeps the beginning of what is written.
type head struct {
	b    strings.Builder
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.b.Write(p[:n])
	h.left -= n
	return len(p), nil
}

func (h *head) String() string { return h.b.String() }
