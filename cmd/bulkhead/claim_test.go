package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

func TestMistypedCodeIsAskedForAgain(t *testing.T) {
	want := access.NewCode()
	var out bytes.Buffer
	a := &app{out: &out, asks: true}
	got, err := a.code(bufio.NewReader(strings.NewReader("4X7M\n"+strings.ToLower(want.String())+"\n")), "")
	if err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if n := strings.Count(out.String(), "Claim code: "); n != 2 {
		t.Errorf("asked %d times:\n%s", n, &out)
	}
	if _, err := a.code(bufio.NewReader(strings.NewReader("4X7M\n")), ""); err == nil {
		t.Error("who goes away has a code")
	}
	a.asks = false
	if _, err := a.code(bufio.NewReader(strings.NewReader("")), ""); err == nil || !strings.Contains(err.Error(), "--code") {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestSigningKeyIsMadeOnce(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	first, path, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := signingKey()
	if err != nil || second.Public().ID() != first.Public().ID() {
		t.Errorf("%s: got another key, %v", path, err)
	}
}
