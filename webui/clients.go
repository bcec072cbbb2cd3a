//go:build linux

package webui

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unicode"

	auth "bulkhead/services/auth/api"
	"bulkhead/services/file"
)

// Files of the authority that vouches for clients, and of the certificates it has made.
const (
	clientsFile    = "clients.pem"
	clientListFile = "clients.json"
)

const (
	clientLife   = 2 * 365 * 24 * time.Hour
	maxOfHolder  = 16 // certificates
	maxLabel     = 64 // characters
	maxListBytes = 4 << 20
)

// clientCert is a certificate that a client may show.
type clientCert struct {
	ID      string      `json:"id"` // SHA-256 of it, hexadecimal
	Holder  auth.Holder `json:"holder"`
	Label   string      `json:"label"` // of the device that has it
	Made    time.Time   `json:"made"`
	Expires time.Time   `json:"expires"`
}

// clients are the certificates with which people and programs come to the door, where the
// configuration asks for them. A certificate opens nothing else: who comes in by it logs in
// as anybody does. One that is not on the list is worth nothing, whoever signed it.
//
// There are 16 of each user and each token, so that nobody takes another's; authd bounds
// how many of those there are.
type clients struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	issuer *authority // nil: there is none yet
	pool   *x509.CertPool
	list   []clientCert
}

// openClients reads what is kept in a directory. What is damaged is as if it was not there:
// nobody has a certificate then, and who is at the console can have none asked for.
func openClients(dir string, log *slog.Logger, now func() time.Time) *clients {
	c := &clients{dir: dir, now: now, pool: x509.NewCertPool()}
	path := filepath.Join(dir, clientsFile)
	data, err := file.Read(path, 1<<20)
	if err == nil {
		var a *authority
		if a, err = decodeAuthority(path, data); err == nil {
			c.appoint(a)
			data, err = file.Read(filepath.Join(dir, clientListFile), maxListBytes)
			if err == nil {
				err = json.Unmarshal(data, &c.list)
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("the certificates of clients are lost", "err", err)
		c.list = nil
	}
	return c
}

func (c *clients) appoint(a *authority) {
	c.issuer = a
	c.pool = x509.NewCertPool()
	c.pool.AddCert(a.cert)
}

// config is base for a server that asks for certificates. Whoever comes gets through the
// handshake, with one that is good, with another, or with none: only a page can say what is
// missing. That the client has the key, crypto/tls sees to.
func (c *clients) config(base *tls.Config) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	conf := base.Clone()
	conf.GetConfigForClient = nil
	conf.ClientAuth = tls.RequestClientCert
	conf.ClientCAs = c.pool // by which browsers choose
	return conf
}

// Why a client gets no further.
var (
	errNoCert    = errors.New("none was shown")
	errOtherCert = errors.New("the one that was shown is not one that this box has made, or was revoked")
	errGone      = errors.New("the one that was shown is that of somebody who may not come in any more")
)

// shown returns the certificate that a client has shown, if it is good now, or why it is
// not. One that the box has made is known by its digest, which is better than a signature:
// what is not on the list is not looked at any further.
func (c *clients) shown(state *tls.ConnectionState) (clientCert, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return clientCert{}, errNoCert
	}
	leaf := state.PeerCertificates[0]
	// A connection lives longer than its handshake.
	if c.now().After(leaf.NotAfter) {
		return clientCert{}, fmt.Errorf("the one that was shown ended on %s", leaf.NotAfter.UTC().Format(dayLayout))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(certID(leaf.Raw))
	if i < 0 {
		return clientCert{}, errOtherCert
	}
	return c.list[i], nil
}

func certID(cert []byte) string {
	sum := sha256.Sum256(cert)
	return hex.EncodeToString(sum[:])
}

func (c *clients) index(id string) int {
	return slices.IndexFunc(c.list, func(x clientCert) bool { return x.ID == id })
}

// of returns the certificates of a user or a token, the latest first.
func (c *clients) of(h auth.Holder) []clientCert {
	return slices.DeleteFunc(c.all(), func(x clientCert) bool { return x.Holder != h })
}

// all returns the certificates that are good, the latest first.
func (c *clients) all() (list []clientCert) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range slices.Backward(c.list) {
		if x.Expires.After(c.now()) {
			list = append(list, x)
		}
	}
	return list
}

// authority is the certificate of who vouches for clients; nil: nobody does yet.
func (c *clients) authority() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issuer == nil {
		return nil
	}
	return c.issuer.cert
}

var (
	errBundlePassword = errors.New("the password of the file has at least 8 characters")
	errBundleRune     = errors.New("the password of the file has a character that the file cannot have there, such as an emoji")

	errLabel    = errors.New("a certificate has a label of 1 to 64 characters, such as laptop")
	errManyCert = errors.New("you have 16 certificates: revoke some that are not used")
	errPublic   = errors.New("the key is of a kind that is not taken: use ECDSA with P-256 or P-384, or Ed25519")
)

// issue makes a certificate for a key.
func (c *clients) issue(h auth.Holder, label string, key crypto.PublicKey) (*x509.Certificate, error) {
	if n := len([]rune(label)); n < 1 || n > maxLabel || slices.ContainsFunc([]rune(label), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, errLabel
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, errPublic
		}
	default:
		return nil, errPublic
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	list, ok := makeRoom(c.list, h, now)
	if !ok {
		return nil, errManyCert
	}
	if c.issuer == nil {
		a, err := newClientAuthority(c.dir)
		if err != nil {
			return nil, fmt.Errorf("make an authority for clients: %w", err)
		}
		c.appoint(a)
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: h.Name, OrganizationalUnit: []string{label}},
		NotBefore:    authorityFrom, // clients may have no clock either
		NotAfter:     now.Add(clientLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.issuer.cert, key, c.issuer.key)
	if err != nil {
		return nil, err
	}
	list = append(list, clientCert{certID(der), h, label, now.UTC().Truncate(time.Second), template.NotAfter.UTC().Truncate(time.Second)})
	if err := c.keep(list); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// makeRoom returns the list with room for one more certificate of a holder, and reports
// whether there is any. Only if there was none, the first of theirs to have ended is dropped:
// a clock that is years ahead for a while must not cost anybody else theirs.
func makeRoom(list []clientCert, h auth.Holder, now time.Time) ([]clientCert, bool) {
	list = slices.Clone(list)
	held, first := 0, -1
	for i, x := range list {
		if x.Holder != h {
			continue
		}
		held++
		if first < 0 || x.Expires.Before(list[first].Expires) {
			first = i
		}
	}
	if held < maxOfHolder {
		return list, true
	}
	if list[first].Expires.After(now) {
		return nil, false
	}
	return slices.Delete(list, first, first+1), true
}

// revoke makes a certificate worth nothing, if it is there and may says that it may be. It
// reports which it was.
func (c *clients) revoke(id string, may func(clientCert) bool) (cert clientCert, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(id)
	if i < 0 || !may(c.list[i]) {
		return clientCert{}, false, nil
	}
	cert = c.list[i]
	return cert, true, c.keep(slices.Delete(slices.Clone(c.list), i, i+1))
}

// holders returns those who have certificates.
func (c *clients) holders() (list []auth.Holder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.list {
		if !slices.Contains(list, x.Holder) {
			list = append(list, x.Holder)
		}
	}
	return list
}

// forget drops the certificates of holders who are gone.
func (c *clients) forget(gone []auth.Holder) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(c.list), func(x clientCert) bool { return slices.Contains(gone, x.Holder) })
	if len(list) == len(c.list) {
		return nil
	}
	return c.keep(list)
}

func (c *clients) keep(list []clientCert) error {
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := file.Replace(filepath.Join(c.dir, clientListFile), data, 0o600, -1); err != nil {
		return err
	}
	c.list = list
	return file.SyncDir(c.dir)
}

// newClientAuthority makes the authority that vouches for clients. Browsers need not
// believe it, only the box does, so that it is another than the one for the box.
func newClientAuthority(dir string) (*authority, error) {
	return makeAuthority(filepath.Join(dir, clientsFile), authorityTemplate("Bulkhead clients", x509.ExtKeyUsageClientAuth))
}
