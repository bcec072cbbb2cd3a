package main

import (
	"bufio"
	"errors"
	"fmt"

	"bulkhead/netcfg/api"
)

// lockoutHint says what to do about a change that locks out.
const lockoutHint = "hint: keep an admin zone that you can reach; or, at the box itself, insist with --accept-lockout"

// mayInsist returns an error if somebody insists on a lock-out who may not, or who
// cannot be asked.
func (a *app) mayInsist(t terms) error {
	if t.lockout && (a.box != "" || !a.asks || a.json) {
		return fmt.Errorf("%w: --accept-lockout is for somebody who sits at the box and agrees to it by hand", errUsage)
	}
	return nil
}

// lockoutWords are what somebody types who agrees to a lock-out.
const lockoutWords = "lock me out"

// agreeToLockout returns an error unless whoever sits at the box types that they agree.
func (a *app) agreeToLockout(in *bufio.Reader, reason string) error {
	a.item("", a.paint(red, api.LockoutText(reason))+".")
	answer, err := a.ask(in, fmt.Sprintf("Only this console gets you back in. To go on, type %q: ", lockoutWords))
	switch {
	case err != nil:
		return err
	case answer != lockoutWords:
		return errors.New("nothing was changed")
	}
	return nil
}
