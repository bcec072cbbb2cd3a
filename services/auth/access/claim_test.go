package access_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"bulkhead/services/auth/access"
)

var (
	owner    = netip.MustParseAddr("192.168.77.100")
	stranger = netip.MustParseAddr("192.168.77.101")
	exporter = []byte("the session")
	start    = time.Unix(0, 0)
)

func grant() error { return nil }

func TestCodeIsGoodForOneClaim(t *testing.T) {
	var c access.Claim
	if _, ok := c.Code(); ok {
		t.Error("there is a code before one was made")
	}
	_, err := c.Redeem(owner, start, exporter, nil, grant)
	if !errors.Is(err, access.ErrNoCode) {
		t.Errorf("without a code: got %v", err)
	}
	code := c.Ensure()
	if again := c.Ensure(); again != code {
		t.Error("the code changes while it is looked at")
	}
	proof := code.Proof(access.Client, exporter)

	full := errors.New("the disk is full")
	if _, err := c.Redeem(owner, start, exporter, proof, func() error { return full }); !errors.Is(err, full) {
		t.Errorf("a claim that cannot be kept: got %v", err)
	}
	answer, err := c.Redeem(owner, start, exporter, proof, grant)
	if err != nil {
		t.Fatal(err)
	}
	if !code.Verify(access.Server, exporter, answer) {
		t.Error("the server's proof is wrong")
	}
	if _, err := c.Redeem(owner, start, exporter, proof, grant); !errors.Is(err, access.ErrNoCode) {
		t.Errorf("the same code again: got %v", err)
	}
}

func TestWhoGuessesWaitsAndKeepsNobodyElseOut(t *testing.T) {
	var c access.Claim
	code := c.Renew()
	right := code.Proof(access.Client, exporter)
	now, waits := start, 0
	for range 100 {
		_, err := c.Redeem(stranger, now, exporter, []byte("a guess"), grant)
		if wait, ok := errors.AsType[*access.WaitError](err); ok {
			waits++
			if _, err := c.Redeem(stranger, now, exporter, right, grant); err == nil {
				t.Fatal("one who has to wait is listened to")
			}
			now = now.Add(wait.For)
		} else if !errors.Is(err, access.ErrWrongProof) {
			t.Fatalf("a wrong proof: got %v", err)
		}
	}
	if waits < 40 {
		t.Errorf("100 guesses had to wait %d times", waits)
	}
	if _, err := c.Redeem(owner, now, exporter, right, grant); err != nil {
		t.Errorf("the owner: %v", err)
	}
}

func TestNewCodeEndsTheWaiting(t *testing.T) {
	var c access.Claim
	c.Renew()
	for range 10 {
		_, _ = c.Redeem(owner, start, exporter, nil, grant)
	}
	if _, err := c.Redeem(owner, start, exporter, nil, grant); errors.Is(err, access.ErrWrongProof) {
		t.Fatal("ten wrong proofs at once were judged")
	}
	code := c.Renew() // by who sits at the console
	if _, err := c.Redeem(owner, start, exporter, code.Proof(access.Client, exporter), grant); err != nil {
		t.Error(err)
	}
}

func TestManyStrangersTakeBoundedRoom(t *testing.T) {
	var c access.Claim
	code := c.Renew()
	a := netip.MustParseAddr("10.0.0.1")
	for i := range 5000 {
		_, _ = c.Redeem(a, start.Add(time.Duration(i)), exporter, nil, grant)
		a = a.Next()
	}
	if n := access.Guests(&c); n > 1024 {
		t.Errorf("%d addresses are remembered", n)
	}
	if _, err := c.Redeem(owner, start, exporter, code.Proof(access.Client, exporter), grant); err != nil {
		t.Errorf("the owner: %v", err)
	}
}
