package account

import (
	"fmt"
	"net/netip"
	"time"
)

// Guesses are slowed down twice. An address that guesses wrong waits longer and longer,
// whoever it tries to be. And an account is guessed at only so often by addresses that it
// never came from, however many there are of them; those it did come from are let
// through, so that nobody can keep its owner out.
const (
	freeGuesses = 5                // wrong ones before an address has to wait
	firstWait   = 2 * time.Second  // doubles with each further one
	longestWait = 5 * time.Minute  // and is forgotten after an hour without a guess
	forget      = time.Hour        // of an address's wrong guesses
	strangers   = 20               // wrong guesses at one account by strangers in
	strangeTime = 10 * time.Minute // this time
	maxTracked  = 4096             // addresses and accounts; the longest quiet is forgotten
	maxFamiliar = 16               // addresses of an account; the oldest is forgotten
)

// A WaitError says that there were too many wrong guesses.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("too many wrong tries: wait %v", e.For.Round(time.Second)+time.Second)
}

// limit counts guesses. Times are by a clock that nobody sets, such as [time.Now]'s
// monotonic one.
type limit struct {
	addrs    map[netip.Addr]*guesses
	accounts map[string]*guesses
	familiar map[string][]netip.Addr
}

type guesses struct {
	wrong int
	first time.Time // of those counted
	last  time.Time
	until time.Time // before which there is no further guess
}

func newLimit() *limit {
	return &limit{map[netip.Addr]*guesses{}, map[string]*guesses{}, map[string][]netip.Addr{}}
}

// wait says for how long an address must not guess at an account; 0 for now.
func (l *limit) wait(account string, from netip.Addr, now time.Time) time.Duration {
	wait := time.Duration(0)
	if g := l.addrs[from]; g != nil {
		wait = max(wait, g.until.Sub(now))
	}
	if g := l.accounts[account]; g != nil && !l.knows(account, from) {
		wait = max(wait, g.until.Sub(now))
	}
	return wait
}

func (l *limit) knows(account string, from netip.Addr) bool {
	for _, a := range l.familiar[account] {
		if a == from {
			return true
		}
	}
	return false
}

// wrong counts a wrong guess. Account is "" for one that does not exist.
func (l *limit) wrong(account string, from netip.Addr, now time.Time) {
	g := track(l.addrs, from, now, forget)
	if over := g.wrong - freeGuesses; over >= 0 {
		g.until = now.Add(min(firstWait<<min(over, 16), longestWait))
	}
	if account == "" || l.knows(account, from) {
		return
	}
	g = track(l.accounts, account, now, strangeTime)
	if g.wrong >= strangers {
		g.until = g.first.Add(strangeTime)
	}
}

// right forgets what an address got wrong, and that the account is strange to it.
func (l *limit) right(account string, from netip.Addr) {
	delete(l.addrs, from)
	if l.knows(account, from) {
		return
	}
	if g := l.accounts[account]; g != nil {
		g.wrong--
	}
	list := append(l.familiar[account], from)
	l.familiar[account] = list[max(0, len(list)-maxFamiliar):]
}

// track counts one more wrong guess of k, from anew if the last is long ago.
func track[K comparable](m map[K]*guesses, k K, now time.Time, forget time.Duration) *guesses {
	g := m[k]
	if g == nil {
		if len(m) >= maxTracked {
			drop(m)
		}
		g = &guesses{first: now}
		m[k] = g
	} else if now.Sub(g.last) > forget || g.wrong > 0 && forget == strangeTime && now.Sub(g.first) > forget {
		*g = guesses{first: now}
	}
	g.wrong++
	g.last = now
	return g
}

// drop forgets the one who has been quiet for longest.
func drop[K comparable](m map[K]*guesses) {
	var oldest K
	var at time.Time
	for k, g := range m {
		if at.IsZero() || g.last.Before(at) {
			oldest, at = k, g.last
		}
	}
	delete(m, oldest)
}
