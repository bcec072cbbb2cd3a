package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"bulkhead/services/auth/access"
)

// Certify has the box make a client certificate for this workstation, which is called
// label, and puts it and its key into the profile. The key does not leave.
func (p *Profile) Certify(ctx context.Context, label string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	if err != nil {
		return err
	}
	var out access.CertificateAnswer
	if err := New(p).Call(ctx, "POST", "/v1/certificates", access.CertificateRequest{Label: label, Request: request}, &out); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(out.Certificate)
	if err != nil {
		return fmt.Errorf("the box's answer: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return fmt.Errorf("the box's answer is a certificate for another key")
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	p.Certificate, p.Key = out.Certificate, secret
	return nil
}

// shown are the certificates that the profile has to show. A damaged one is as if there
// was none: the box says then that it misses it.
func (p *Profile) shown() []tls.Certificate {
	if len(p.Certificate) == 0 {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(p.Key)
	if err != nil {
		return nil
	}
	return []tls.Certificate{{Certificate: [][]byte{p.Certificate}, PrivateKey: key}}
}
