//go:build linux

package update

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"regexp"
	"slices"
	"time"

	"bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

// maxKeys bounds how many keys a box trusts.
const maxKeys = 16

var keyName = regexp.MustCompile(`^[!-~]([ -~]{0,62}[!-~])?$`)

func (u *updater) keys() (api.Keys, error) {
	s := u.store.get()
	if s.Keys == nil {
		s.Keys = []api.Key{}
	}
	return api.Keys{Keys: s.Keys, Nonce: s.Nonce}, nil
}

// addKey trusts a key: the first one at its word, since whoever has claimed the box
// says so, and each further one only if a key vouches for it that is trusted already.
// Who holds a token of the API can so not bring an image of their own.
func (u *updater) addKey(in api.AddKey) error {
	if len(in.Key) != ed25519.PublicKeySize {
		return refuse(http.StatusBadRequest, "a key of %d bytes is none of ed25519's", len(in.Key))
	}
	if !keyName.MatchString(in.Name) {
		return refuse(http.StatusBadRequest, "key name %.80q: want 1 to 64 characters of ASCII", in.Name)
	}
	return u.store.update(func(s *state) error {
		by := ""
		switch {
		case slices.ContainsFunc(s.Keys, func(k api.Key) bool { return k.ID == in.Key.ID() }):
			return refuse(http.StatusConflict, "the box trusts key %s already", in.Key.ID())
		case len(s.Keys) >= maxKeys:
			return refuse(http.StatusConflict, "the box trusts %d keys, which is as many as it takes: remove one first", len(s.Keys))
		case len(s.Keys) == 0:
		case in.Signature == nil:
			return refuse(http.StatusForbidden, "the box trusts a key already: one that it trusts must sign for another, with: bulkhead keys add")
		default:
			c := manifest.KeyChange{Nonce: s.Nonce, Key: in.Key, Name: in.Name}
			if err := manifest.VerifyKeys(c, *in.Signature, s.trusted()); err != nil {
				return refuse(http.StatusForbidden, "%s", err)
			}
			by = in.Signature.Key
		}
		s.Keys = append(slices.Clone(s.Keys), api.Key{ID: in.Key.ID(), Key: in.Key, Name: in.Name, Added: time.Now().UTC().Truncate(time.Second), By: by})
		s.Nonce = rand.Text()
		u.log.Info("a key for images is trusted now", "key", in.Key.ID(), "name", in.Name, "by", by)
		return nil
	})
}

// removeKey trusts a key no more. The last one stays: without any, the next key that
// comes would be trusted at its word.
func (u *updater) removeKey(id string, in api.RemoveKey) error {
	return u.store.update(func(s *state) error {
		i := slices.IndexFunc(s.Keys, func(k api.Key) bool { return k.ID == id })
		switch {
		case i < 0:
			return refuse(http.StatusNotFound, "the box trusts no key %.32q", id)
		case len(s.Keys) == 1:
			return refuse(http.StatusConflict, "key %s is the only one: add another first; if it is lost or stolen, the box's console can forget all keys", id)
		}
		c := manifest.KeyChange{Nonce: s.Nonce, Remove: true, Key: s.Keys[i].Key}
		if err := manifest.VerifyKeys(c, in.Signature, s.trusted()); err != nil {
			return refuse(http.StatusForbidden, "%s", err)
		}
		s.Keys = slices.Delete(slices.Clone(s.Keys), i, i+1)
		s.Nonce = rand.Text()
		u.log.Info("a key for images is trusted no more", "key", id, "by", in.Signature.Key)
		return nil
	})
}

// resetKeys forgets all keys: only the console may.
func (u *updater) resetKeys() error {
	return u.store.update(func(s *state) error {
		s.Keys, s.Nonce = nil, rand.Text()
		u.log.Info("all keys for images are forgotten")
		return nil
	})
}
