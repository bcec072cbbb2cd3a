package access_test

import (
	"bytes"
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

func TestCodeIsReadAsPeopleTypeIt(t *testing.T) {
	code, err := access.ParseCode("0123-4567-89AB-CDE1")
	if err != nil {
		t.Fatal(err)
	}
	if got := code.String(); got != "0123-4567-89AB-CDE1" {
		t.Errorf("got %s", got)
	}
	for _, typed := range []string{
		"0123456789abcde1",
		"O123-4567-89ab-cdeI",
		" o 1 2 3 4567 89ab cdel\n",
		"--01-23--4567-89AB-CDE1-",
	} {
		if got, err := access.ParseCode(typed); err != nil || got != code {
			t.Errorf("%q: got %v, %v", typed, got, err)
		}
	}
	for typed, want := range map[string]string{
		"":                     "0 characters instead of 16",
		"0123-4567-89AB-CDE":   "15 characters instead of 16",
		"0123-4567-89AB-CDE12": "more than 16 characters",
		"0123-4567-89AB-CDU1":  "'U' is none of its characters",
		"0123-4567-89AB-CDÉ1":  "'É' is none of its characters",
	} {
		_, err := access.ParseCode(typed)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", typed, err, want)
		}
	}
}

func TestFingerprintFitsALineAndComesBack(t *testing.T) {
	var f access.Fingerprint
	for i := range f {
		f[i] = byte(i * 7)
	}
	text := f.String()
	if len(text) > 64 || strings.Count(text, "-") != 12 {
		t.Errorf("got %s", text)
	}
	back, err := access.ParseFingerprint(strings.ToLower(text))
	if err != nil || back != f {
		t.Errorf("got %v, %v", back, err)
	}
	// Four bits of the last symbol belong to no byte.
	if _, err := access.ParseFingerprint(text[:len(text)-1] + "Z"); err == nil {
		t.Error("a fingerprint with bits too many is taken")
	}
}

func TestProofIsForOneSideOfOneSession(t *testing.T) {
	code, here, there := access.NewCode(), []byte("one session"), []byte("another one")
	proof := code.Proof(access.Client, here)
	if !code.Verify(access.Client, here, proof) {
		t.Fatal("a right proof is refused")
	}
	cut := proof[:len(proof)-1]
	other := access.NewCode()
	for what, ok := range map[string]bool{
		"the other side":    code.Verify(access.Server, here, proof),
		"another session":   code.Verify(access.Client, there, proof),
		"another code":      other.Verify(access.Client, here, proof),
		"a shortened proof": code.Verify(access.Client, here, cut),
		"no proof":          code.Verify(access.Client, here, nil),
	} {
		if ok {
			t.Errorf("%s: the proof is taken", what)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("4X7M-09QT-ZK3A-B1CD")
	f.Add("o123 4567 89ab cdel")
	f.Fuzz(func(t *testing.T, s string) {
		code, err := access.ParseCode(s)
		if err != nil {
			return
		}
		if back, err := access.ParseCode(code.String()); err != nil || back != code {
			t.Errorf("%q: got %v and then %v, %v", s, code, back, err)
		}
	})
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(access.Fingerprint{1, 2, 3}.String())
	f.Fuzz(func(t *testing.T, s string) {
		fp, err := access.ParseFingerprint(s)
		if err != nil {
			return
		}
		text, _ := fp.MarshalText()
		var back access.Fingerprint
		if err := back.UnmarshalText(text); err != nil || !bytes.Equal(back[:], fp[:]) {
			t.Errorf("%q: got %v and then %v, %v", s, fp, back, err)
		}
	})
}
