//go:build linux

package webui

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
)

// authorityFile holds the private key of the box's certificate authority and its
// certificate, in that order.
const authorityFile = "authority.pem"

// The authority does not end, and began long ago: the box may have no clock when it is
// made, and nobody would come round to install another. RFC 5280, section 4.1.2.5, has
// the year 9999 for "no well-defined expiration date".
var (
	authorityFrom  = time.Unix(0, 0).UTC()
	authorityUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// authority signs the certificate of this box and of no other. People tell their browsers
// to believe it, so it says itself what it may be believed about: the names of the box,
// and addresses that are nobody's on the internet. Who steals its key can pass for the
// box, and not for a bank.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// openAuthority reads the authority in a directory. It is nil, without an error, if there
// is none yet.
func openAuthority(dir string) (*authority, error) {
	path := filepath.Join(dir, authorityFile)
	data, err := file.Read(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decodeAuthority(path, data)
}

func decodeAuthority(path string, data []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(data, data) // whose halves fit
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: it is no authority", path)
	}
	return &authority{key, pair.Leaf}, nil
}

// local are the addresses that are nobody's on the internet.
var local = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
}

// newAuthority makes an authority for a box and keeps it.
func newAuthority(dir string, c svcconf.Web) (*authority, error) {
	name := c.Name
	if name == "" {
		name = "a new box"
	}
	template := authorityTemplate("Bulkhead of "+name, x509.ExtKeyUsageServerAuth)
	template.PermittedDNSDomainsCritical = true
	dns, _ := split(namesOf(c))
	if template.PermittedDNSDomains = dns; len(dns) == 0 {
		template.PermittedDNSDomains = []string{"invalid"} // RFC 6761: nobody's. None would be all.
	}
	for _, p := range append(slices.Clone(local), others(c.Listen)...) {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return makeAuthority(filepath.Join(dir, authorityFile), template)
}

// authorityTemplate is the certificate of an authority for one purpose.
func authorityTemplate(name string, purpose x509.ExtKeyUsage) *x509.Certificate {
	number := serial()
	return &x509.Certificate{
		SerialNumber: number,
		// Two authorities of one name, one of them of a box that is gone, confuse browsers.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s (%.4x)", name, number.Bytes()[:4]), Organization: []string{"Bulkhead"}},
		NotBefore:             authorityFrom,
		NotAfter:              authorityUntil,
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{purpose},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it appoints no other
	}
}

// makeAuthority makes an authority with a new key, and keeps it in a file.
func makeAuthority(path string, template *x509.Certificate) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	text, err := keep(path, key, der)
	if err != nil {
		return nil, err
	}
	return decodeAuthority(path, text)
}

// others returns those of the addresses that are not among the local ones, each by itself.
func others(addrs []netip.Addr) (list []netip.Prefix) {
	for _, a := range addrs {
		if !slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(a) }) {
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return list
}

// permits reports whether the authority may speak for all of the names and addresses.
func (a *authority) permits(names []string) bool {
	dns, ips := split(names)
	for _, n := range dns {
		n = strings.ToLower(n)
		if !slices.ContainsFunc(a.cert.PermittedDNSDomains, func(d string) bool { return n == strings.ToLower(d) || strings.HasSuffix(n, "."+strings.ToLower(d)) }) {
			return false
		}
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(a.cert.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) }) {
			return false
		}
	}
	return true
}
