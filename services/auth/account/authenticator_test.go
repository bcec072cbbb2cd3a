package account_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
)

// authenticator is a device with a finger on it, as WebAuthn level 3 describes one: it
// makes ES256 keys, says nothing of itself (attestation "none"), and signs.
type authenticator struct {
	t      *testing.T
	origin string
	keys   []*passkey
}

type passkey struct {
	id, handle []byte
	rp         string
	key        *ecdsa.PrivateKey
	count      uint32
}

var b64 = base64.RawURLEncoding

func (a *authenticator) client(kind string, challenge []byte) []byte {
	data, err := json.Marshal(map[string]any{"type": kind, "challenge": b64.EncodeToString(challenge), "origin": a.origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

// Flags of authenticator data, section 6.1.
const present, verified, attested = 1, 4, 0x40

func (p *passkey) data(flags byte) []byte {
	rp := sha256.Sum256([]byte(p.rp))
	return binary.BigEndian.AppendUint32(append(rp[:], flags), p.count)
}

// create answers navigator.credentials.create.
func (a *authenticator) create(o *protocol.CredentialCreation) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	p := &passkey{id: make([]byte, 32), rp: o.Response.RelyingParty.ID, key: key}
	rand.Read(p.id)
	switch id := o.Response.User.ID.(type) {
	case protocol.URLEncodedBase64:
		p.handle = id
	case []byte:
		p.handle = id
	default:
		a.t.Fatalf("the user's ID is a %T", id)
	}
	a.keys = append(a.keys, p)
	auth := append(p.data(present|verified|attested), make([]byte, 16)...) // AAGUID
	auth = binary.BigEndian.AppendUint16(auth, uint16(len(p.id)))
	auth = append(append(auth, p.id...), cose(key)...)
	object := []byte{0xa3, 0x63, 'f', 'm', 't', 0x64, 'n', 'o', 'n', 'e', 0x67, 'a', 't', 't', 'S', 't', 'm', 't', 0xa0, 0x68, 'a', 'u', 't', 'h', 'D', 'a', 't', 'a', 0x58, byte(len(auth))}
	object = append(object, auth...)
	return a.answer(p, map[string]any{
		"clientDataJSON": b64.EncodeToString(a.client("webauthn.create", o.Response.Challenge)), "attestationObject": b64.EncodeToString(object),
	})
}

// get answers navigator.credentials.get with its last key.
func (a *authenticator) get(o *protocol.CredentialAssertion) []byte {
	p := a.keys[len(a.keys)-1]
	p.count++
	auth, client := p.data(present|verified), a.client("webauthn.get", o.Response.Challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(auth[:len(auth):len(auth)], hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.answer(p, map[string]any{
		"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(auth),
		"signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString(p.handle),
	})
}

func (a *authenticator) answer(p *passkey, response map[string]any) []byte {
	data, err := json.Marshal(map[string]any{
		"id": b64.EncodeToString(p.id), "rawId": b64.EncodeToString(p.id), "type": "public-key", "response": response,
		"clientExtensionResults": map[string]any{},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

// cose is the public key of ES256 in CBOR, RFC 9053 section 7.1.1.
func cose(key *ecdsa.PrivateKey) []byte {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 32}
	b = append(b, point[1:33]...)
	return append(append(b, 0x22, 0x58, 32), point[33:]...)
}
