package dns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/model"
)

// secured is a resolver over TLS.
type secured struct {
	addr  netip.AddrPort
	roots *x509.CertPool

	conns, asked atomic.Int32
	sizes        sync.Map // of questions, in bytes
	mu           sync.Mutex
	open         []net.Conn
}

// newSecured starts a resolver whose certificate says name. reply answers what it was
// asked since it last answered; nil for nothing yet.
func newSecured(t testing.TB, name string, reply func([]*dns.Msg) [][]byte) *secured {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"dot"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{addr: l.Addr().(*net.TCPAddr).AddrPort(), roots: x509.NewCertPool()}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.roots.AddCert(cert)
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); s.hangUp(); running.Wait() })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open = append(s.open, conn)
			s.mu.Unlock()
			running.Go(func() { s.serve(t, conn, reply) })
		}
	})
	return s
}

func (s *secured) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.Close()
	}
	s.open = nil
}

func (s *secured) serve(t testing.TB, conn net.Conn, reply func([]*dns.Msg) [][]byte) {
	defer conn.Close()
	var waiting []*dns.Msg
	for first := true; ; first = false {
		msg, err := readFramed(conn, nil)
		if err != nil {
			return
		}
		if first {
			s.conns.Add(1)
		}
		s.asked.Add(1)
		s.sizes.Store(len(msg), true)
		q := new(dns.Msg)
		if err := q.Unpack(msg); err != nil {
			t.Errorf("the resolver got %x: %v", msg, err)
			return
		}
		waiting = append(waiting, q)
		answers := reply(waiting)
		if answers != nil {
			waiting = nil
		}
		for _, b := range answers {
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
				return
			}
		}
	}
}

// use has the testbed ask the resolver by a name.
func (s *secured) use(t testing.TB, b *testbed, name string) {
	t.Helper()
	b.roots = s.roots
	b.cfg.Resolvers = []model.Resolver{{Addr: s.addr, TLS: true, Name: name}}
	b.put(t)
}

func each(f func(*dns.Msg) *dns.Msg, t testing.TB) func([]*dns.Msg) [][]byte {
	return func(list []*dns.Msg) (out [][]byte) {
		for _, q := range list {
			out = append(out, sends(t, f(q))...)
		}
		return out
	}
}

func TestSecuredResolverIsAskedOverOneConnection(t *testing.T) {
	b := newTestbed(t)
	s := newSecured(t, "dns.example", each(func(q *dns.Msg) *dns.Msg { return address(t, q, "192.0.2.1") }, t))
	s.use(t, b, "dns.example")
	for i := range 20 {
		name := fmt.Sprintf("%s.example", strings.Repeat("a", i+1))
		b.want(t, name, "NOERROR; "+name+". 300 IN A 192.0.2.1")
	}
	if n := s.conns.Load(); n != 1 || s.asked.Load() != 20 {
		t.Errorf("%d questions over %d connections", s.asked.Load(), n)
	}
	s.sizes.Range(func(size, _ any) bool {
		if size.(int)%block != 0 {
			t.Errorf("a question has %d bytes: its length tells of its name", size)
		}
		return true
	})
	// A connection that was closed is opened anew, and the question is not lost.
	s.hangUp()
	b.want(t, "again.example", "NOERROR; again.example. 300 IN A 192.0.2.1")
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Answers come in any order, and find who asked.
func TestSecuredAnswersFindTheirQuestions(t *testing.T) {
	const n = 50
	b := newTestbed(t)
	s := newSecured(t, "dns.example", func(list []*dns.Msg) (out [][]byte) {
		if len(list) < n {
			return nil
		}
		for i := range list {
			q := list[len(list)-1-i]
			var host int
			fmt.Sscanf(strings.ToLower(q.Question[0].Name), "host-%d.", &host)
			out = append(out, sends(t, address(t, q, fmt.Sprintf("192.0.2.%d", host)))...)
		}
		return out
	})
	s.use(t, b, "dns.example")
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			name := fmt.Sprintf("host-%d.example", i)
			b.want(t, name, fmt.Sprintf("NOERROR; %s. 300 IN A 192.0.2.%d", name, i))
		})
	}
	all.Wait()
}

func TestResolverThatIsNotWhoItSaysIsNotAsked(t *testing.T) {
	b := newTestbed(t)
	s := newSecured(t, "dns.example", each(func(q *dns.Msg) *dns.Msg { return address(t, q, "192.0.2.66") }, t))
	s.use(t, b, "dns.other")
	b.want(t, "a.example", "SERVFAIL")
	b.cfg.Resolvers[0].Name = "dns.example"
	b.roots = x509.NewCertPool() // it is signed by a stranger
	b.put(t)
	b.want(t, "b.example", "SERVFAIL")
	if s.asked.Load() != 0 {
		t.Errorf("%d questions reached it", s.asked.Load())
	}
}

func TestSecuredResolverThatTalksNonsense(t *testing.T) {
	for name, reply := range map[string]func([]*dns.Msg) [][]byte{
		"no DNS":         func([]*dns.Msg) [][]byte { return [][]byte{{1, 2, 3}} },
		"nothing at all": func([]*dns.Msg) [][]byte { return [][]byte{{}} },
		"other answers": func(list []*dns.Msg) [][]byte {
			m := address(t, list[0], "192.0.2.1")
			m.Question[0].Name, m.Answer[0].Header().Name = "other.example.", "other.example."
			return sends(t, m)
		},
		"the same answer with another ID": func(list []*dns.Msg) [][]byte {
			m := address(t, list[0], "192.0.2.1")
			m.Id++
			return sends(t, m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestbed(t)
			s := newSecured(t, "dns.example", reply)
			s.use(t, b, "dns.example")
			b.want(t, "a.example", "SERVFAIL")
		})
	}
}
