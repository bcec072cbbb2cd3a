//go:build linux

package webui

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	"bulkhead/services/file"
)

// identityFile holds the box's private key and its certificate, in that order.
const identityFile = "identity.pem"

// How long a certificate is good for. Browsers refuse one of more than 398 days from
// most authorities, and Apple's systems one of more than 825 from any.
const (
	leafLife  = 397 * 24 * time.Hour
	leafRenew = 60 * 24 * time.Hour // before the end
	leafSkew  = time.Hour           // by which a client's clock may be behind
)

// renewRetry is how long a certificate that could not be renewed is left alone.
const renewRetry = time.Minute

// identity is how the box shows who it is. The key is made once; the certificate is
// made again, with the same key, when the box gets other names or addresses, and before
// it ends. Clients of ours know the key, browsers the authority.
type identity struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	cert   *tls.Certificate
	issuer *authority // nil: there is none yet
	conf   svcconf.Web
	tried  time.Time // to renew the certificate, in vain
}

// openIdentity reads the identity in the directory, and makes one if there is none. A
// damaged one is replaced: the box is another to its clients then, which they say.
func openIdentity(dir string, log *slog.Logger, now func() time.Time) (*identity, error) {
	id := &identity{path: filepath.Join(dir, identityFile), log: log, now: now}
	var err error
	if id.issuer, err = openAuthority(dir); err != nil {
		log.Error("the box's certificate authority is lost: browsers have to be told another one", "err", err)
	}
	data, err := file.Read(id.path, 1<<20)
	if err == nil {
		if err = id.decode(data); err == nil {
			return id, nil
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		log.Error("the box's key is lost: clients have to be told the new fingerprint", "err", err)
	}
	if id.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if err := id.issue(svcconf.Web{}); err != nil {
		return nil, fmt.Errorf("keep the box's key: %w", err)
	}
	return id, nil
}

func (id *identity) decode(data []byte) error {
	pair, err := tls.X509KeyPair(data, data) // whose halves fit
	if err != nil {
		return fmt.Errorf("%s: %w", id.path, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s: its key is of another kind", id.path)
	}
	id.key, id.cert = key, &pair
	return nil
}

func (id *identity) fingerprint() access.Fingerprint {
	id.mu.Lock()
	defer id.mu.Unlock()
	return access.FingerprintOf(id.cert.Leaf)
}

// until is when the certificate ends.
func (id *identity) until() time.Time {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert.Leaf.NotAfter
}

// authority is the certificate of the authority, or nil while there is none.
func (id *identity) authority() *x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.issuer == nil {
		return nil
	}
	return id.issuer.cert
}

// certificate is for [tls.Config]. It renews the certificate when its time has come:
// nothing else needs to look at the clock, which the box may be told only later.
func (id *identity) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := id.now()
	if !id.due(now) || len(namesOf(id.conf)) == 0 || now.Sub(id.tried).Abs() < renewRetry {
		return id.cert, nil
	}
	id.tried = now
	if err := id.issue(id.conf); err != nil {
		id.log.Error("the certificate cannot be renewed", "err", err)
	} else {
		id.log.Info("certificate renewed", "until", id.cert.Leaf.NotAfter)
	}
	return id.cert, nil
}

// due reports whether the certificate is over soon, or has not begun.
func (id *identity) due(now time.Time) bool {
	leaf := id.cert.Leaf
	return now.Before(leaf.NotBefore) || now.After(leaf.NotAfter.Add(-leafRenew))
}

// cover makes the certificate one for the names and addresses of a configuration,
// unless it is already.
func (id *identity) cover(c svcconf.Web) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.conf = c
	leaf := id.cert.Leaf
	covers := func(name string) bool { return leaf.VerifyHostname(name) == nil }
	signed := id.issuer != nil && leaf.CheckSignatureFrom(id.issuer.cert) == nil
	if len(namesOf(c)) == 0 || signed && !id.due(id.now()) && !slices.ContainsFunc(namesOf(c), func(name string) bool { return !covers(name) }) {
		return nil
	}
	return id.issue(c)
}

// issue makes a certificate and keeps it before it is used. Without a name or an address
// nobody could check it, so that no authority is needed.
func (id *identity) issue(c svcconf.Web) error {
	name := c.Name
	if name == "" {
		name = "bulkhead"
	}
	now := id.now()
	leaf := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-leafSkew),
		NotAfter:              now.Add(leafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	leaf.DNSNames, leaf.IPAddresses = split(namesOf(c))
	parent, signer := leaf, id.key
	if len(namesOf(c)) > 0 {
		if err := id.appoint(c); err != nil {
			return err
		}
		parent, signer = id.issuer.cert, id.issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, id.key.Public(), signer)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	text, err := keep(id.path, id.key, der)
	if err != nil {
		return err
	}
	return id.decode(text)
}

// appoint makes an authority that may speak for the names and addresses, unless there is
// one.
func (id *identity) appoint(c svcconf.Web) error {
	if id.issuer != nil && id.issuer.permits(namesOf(c)) {
		return nil
	}
	a, err := newAuthority(filepath.Dir(id.path), c)
	if err != nil {
		return fmt.Errorf("make a certificate authority: %w", err)
	}
	if id.issuer != nil {
		id.log.Warn("the box has other names: browsers have to be told its new certificate authority")
	}
	id.issuer = a
	return nil
}

// keep writes a key and its certificate to a file, and returns its text.
func keep(path string, key *ecdsa.PrivateKey, der []byte) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	)
	if err := file.Replace(path, text, 0o600, -1); err != nil {
		return nil, err
	}
	return text, file.SyncDir(filepath.Dir(path))
}

// split tells names from addresses.
func split(names []string) (dns []string, ips []net.IP) {
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			ips = append(ips, a.AsSlice())
		} else {
			dns = append(dns, n)
		}
	}
	return dns, ips
}

// serial returns a random serial number of 127 bits, RFC 5280 section 4.1.2.2: two
// certificates of one issuer must not share one, or browsers refuse both.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// namesOf returns how the box is called: its name, with and without the domain, and
// its addresses.
func namesOf(c svcconf.Web) []string {
	var names []string
	if c.Name != "" {
		names = append(names, c.Name)
		if c.Domain != "" {
			names = append(names, c.Name+"."+c.Domain)
		}
	}
	for _, a := range c.Listen {
		names = append(names, a.String())
	}
	return names
}
