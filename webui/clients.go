//go:build linux

package webui

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
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

	"bulkhead/services/file"
)

// Files of the authority that vouches for clients, and of the certificates it has made.
const (
	clientsFile    = "clients.pem"
	clientListFile = "clients.json"
)

const (
	clientLife = 2 * 365 * 24 * time.Hour
	maxClients = 256 // certificates that are good
	maxLabel   = 60  // characters
)

// clientCert is a certificate that a client may show.
type clientCert struct {
	ID      string    `json:"id"`    // its serial number, hexadecimal
	User    string    `json:"user"`  // or the name of the token, for a program
	Label   string    `json:"label"` // of the device that has it
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
}

// clients are the certificates with which people and programs come to the door, where the
// configuration asks for them. A certificate opens nothing else: who comes in by it logs in
// as anybody does. One that is not on the list is worth nothing, whoever signed it.
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
			data, err = file.Read(filepath.Join(dir, clientListFile), 1<<20)
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

// config is base for a server that asks for certificates. A client that has none is served,
// so that it can be told what is missing.
func (c *clients) config(base *tls.Config) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	conf := base.Clone()
	conf.GetConfigForClient = nil
	conf.ClientAuth, conf.ClientCAs = tls.VerifyClientCertIfGiven, c.pool
	conf.Time = c.now
	return conf
}

// holder returns the certificate that a client has shown, if it is good now.
func (c *clients) holder(state *tls.ConnectionState) (clientCert, bool) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return clientCert{}, false
	}
	leaf := state.VerifiedChains[0][0]
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(hex.EncodeToString(leaf.SerialNumber.Bytes()))
	// A connection lives longer than its handshake.
	if i < 0 || c.now().After(leaf.NotAfter) {
		return clientCert{}, false
	}
	return c.list[i], true
}

func (c *clients) index(id string) int {
	return slices.IndexFunc(c.list, func(x clientCert) bool { return x.ID == id })
}

// of returns the certificates of a user, the latest first.
func (c *clients) of(user string) (list []clientCert) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range slices.Backward(c.list) {
		if x.User == user && x.Expires.After(c.now()) {
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

	errLabel    = errors.New("a certificate has a label of 1 to 60 characters, such as laptop")
	errManyCert = errors.New("there are 256 certificates: revoke some that are not used")
	errPublic   = errors.New("the key is of a kind that is not taken: use ECDSA with P-256 or P-384, or Ed25519")
)

// issue makes a certificate for a key.
func (c *clients) issue(user, label string, key crypto.PublicKey) (*x509.Certificate, error) {
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
	list := slices.DeleteFunc(slices.Clone(c.list), func(x clientCert) bool { return !x.Expires.After(now) })
	if len(list) >= maxClients {
		return nil, errManyCert
	}
	if c.issuer == nil {
		a, err := newClientAuthority(c.dir)
		if err != nil {
			return nil, fmt.Errorf("make an authority for clients: %w", err)
		}
		c.appoint(a)
	}
	number := serial()
	template := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: user, OrganizationalUnit: []string{label}},
		NotBefore:    now.Add(-leafSkew),
		NotAfter:     now.Add(clientLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.issuer.cert, key, c.issuer.key)
	if err != nil {
		return nil, err
	}
	list = append(list, clientCert{hex.EncodeToString(number.Bytes()), user, label, now.UTC().Truncate(time.Second), template.NotAfter.UTC().Truncate(time.Second)})
	if err := c.keep(list); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// revoke makes a certificate of a user worth nothing. It reports whether there was one.
func (c *clients) revoke(user, id string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(id)
	if i < 0 || c.list[i].User != user {
		return false, nil
	}
	return true, c.keep(slices.Delete(slices.Clone(c.list), i, i+1))
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
