package access

import (
	"net/netip"
	"time"
)

// ClaimRequest asks for the first token: POST /api/v1/claim.
type ClaimRequest struct {
	Proof []byte `json:"proof"`         // the client's
	Name  string `json:"name"`          // of the token: who claims
	Key   []byte `json:"key,omitempty"` // ed25519 public key that may sign images from then on

	// Certificate is a request for the token's first, which is made where the box asks for
	// one: who has lost theirs could not ask for it in any other way.
	Certificate *CertificateRequest `json:"certificate,omitempty"`
}

// ClaimAnswer is what a right proof brings.
type ClaimAnswer struct {
	Token    string `json:"token"`
	Proof    []byte `json:"proof"`              // the server's
	Box      string `json:"box,omitempty"`      // the box's name
	KeyError string `json:"keyError,omitempty"` // why the key is not trusted; the claim holds

	Certificate      []byte `json:"certificate,omitempty"`      // X.509, DER
	CertificateError string `json:"certificateError,omitempty"` // why there is none; the claim holds
}

// CertificateRequest asks for a client certificate for a key: POST /api/v1/certificates.
type CertificateRequest struct {
	Label   string `json:"label"`   // of the device that has it
	Request []byte `json:"request"` // PKCS #10, RFC 2986, which is signed with the key
}

// CertificateAnswer is the certificate.
type CertificateAnswer struct {
	Certificate []byte `json:"certificate"` // X.509, DER
}

// Identity is how the box is known: /v1/identity on webuid's control socket.
type Identity struct {
	Fingerprint Fingerprint  `json:"fingerprint"`
	Addresses   []netip.Addr `json:"addresses"`
}

// State is what the console shows of who may come in.
type State struct {
	Claimed bool   `json:"claimed"`
	Code    string `json:"code"` // "" on a box that has an owner, unless one was asked for
	Identity
}

// TokenRequest asks for another token: POST /api/v1/tokens.
type TokenRequest struct {
	Name    string    `json:"name"` // no other token's
	Scopes  []Scope   `json:"scopes"`
	Expires time.Time `json:"expires"` // at most a year from now
}

// TokenAnswer is the only one that ever holds the token itself.
type TokenAnswer struct {
	Secret string `json:"secret"`
	Token
}
