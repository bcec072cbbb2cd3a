package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds on invitations.
const (
	inviteTime = 24 * time.Hour
	maxInvites = 64 // the oldest makes room
)

// invites are the invitations that nobody used yet, in memory only.
type invites struct {
	mu   sync.Mutex
	list []invite
}

type invite struct {
	user  string
	hash  [sha256.Size]byte
	until time.Time
}

func hashCode(code string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.ToUpper(strings.TrimSpace(code))))
}

// add makes an invitation for a user, in place of one that there may be.
func (v *invites) add(user string, now time.Time) (code string, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	code, until = rand.Text(), now.Add(inviteTime)
	v.list = slices.DeleteFunc(v.list, func(i invite) bool { return i.user == user || !now.Before(i.until) })
	if len(v.list) >= maxInvites {
		v.list = v.list[1:]
	}
	v.list = append(v.list, invite{user, hashCode(code), until})
	return code, until
}

// take returns the user that a code invites, and uses the code up.
func (v *invites) take(code string, now time.Time) (user string, ok bool) {
	hash := hashCode(code)
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, in := range v.list {
		if subtle.ConstantTimeCompare(in.hash[:], hash[:]) == 1 && now.Before(in.until) {
			v.list = slices.Delete(v.list, i, i+1)
			return in.user, true
		}
	}
	return "", false
}

// forget drops the invitation of a user.
func (v *invites) forget(user string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.list = slices.DeleteFunc(v.list, func(i invite) bool { return i.user == user })
}
