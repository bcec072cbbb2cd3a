package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"bulkhead/services/auth/access"
)

// Certify has the box make a client certificate for this workstation, which is called
// label, and puts it and its key into the profile. The key does not leave.
func (p *Profile) Certify(ctx context.Context, label string) error {
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	var out access.CertificateAnswer
	if err := New(p).Call(ctx, "POST", "/v1/certificates", access.CertificateRequest{Label: label, Request: request}, &out); err != nil {
		return err
	}
	return p.show(out.Certificate, key)
}

// newRequest makes a key, and a request for a certificate for it.
func newRequest() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	return key, request, err
}

// show puts a certificate that the box has made for a key into the profile.
func (p *Profile) show(der []byte, key *ecdsa.PrivateKey) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("the box's answer: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the box's answer is a certificate for another key")
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	p.Certificate, p.Key = der, secret
	return nil
}

// CertificateEnds returns when the certificate of the profile ends; zero: it has none, or one
// that is damaged.
func (p *Profile) CertificateEnds() time.Time {
	cert, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

// shown are the certificates that the profile has to show. One that is damaged or has ended
// is as if there was none: the box says then that it misses it.
func (p *Profile) shown(now time.Time) []tls.Certificate {
	key, err := x509.ParsePKCS8PrivateKey(p.Key)
	if err != nil || now.After(p.CertificateEnds()) {
		return nil
	}
	return []tls.Certificate{{Certificate: [][]byte{p.Certificate}, PrivateKey: key}}
}
