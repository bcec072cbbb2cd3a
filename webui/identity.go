//go:build linux

package webui

import (
	"bytes"
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

// The certificate does not end and began long ago: the box may have no clock when it
// is made, and nobody could renew what is pinned. RFC 5280, section 4.1.2.5, has the
// year 9999 for "no well-defined expiration date".
var (
	notBefore = time.Unix(0, 0).UTC()
	notAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// identity is how the box shows who it is. The key is made once; the certificate is
// made again, with the same key, when the box gets other names or addresses. Clients
// of ours know the key, browsers the certificate.
type identity struct {
	path string
	key  *ecdsa.PrivateKey

	mu   sync.Mutex
	cert *tls.Certificate
}

// openIdentity reads the identity in the directory, and makes one if there is none. A
// damaged one is replaced: the box is another to its clients then, which they say.
func openIdentity(dir string, log *slog.Logger) (*identity, error) {
	id := &identity{path: filepath.Join(dir, identityFile)}
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
	id.key = key
	id.use(&pair)
	return nil
}

func (id *identity) use(pair *tls.Certificate) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.cert = pair
}

func (id *identity) leaf() *x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert.Leaf
}

func (id *identity) fingerprint() access.Fingerprint { return access.FingerprintOf(id.leaf()) }

// certificate is for [tls.Config].
func (id *identity) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.cert, nil
}

// cover makes the certificate one for the names and addresses of a configuration,
// unless it is already.
func (id *identity) cover(c svcconf.Web) error {
	leaf := id.leaf()
	covers := func(name string) bool { return leaf.VerifyHostname(name) == nil }
	if !slices.ContainsFunc(namesOf(c), func(name string) bool { return !covers(name) }) {
		return nil
	}
	return id.issue(c)
}

// issue makes a certificate and keeps it before it is used.
func (id *identity) issue(c svcconf.Web) error {
	name := c.Name
	if name == "" {
		name = "bulkhead"
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range namesOf(c) {
		if a, err := netip.ParseAddr(n); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return err
	}
	text := slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	)
	if err := file.Replace(id.path, text, 0o600, -1); err != nil {
		return err
	}
	if err := file.SyncDir(filepath.Dir(id.path)); err != nil {
		return err
	}
	return id.decode(bytes.Clone(text))
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
