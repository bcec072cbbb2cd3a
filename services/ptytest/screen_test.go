//go:build linux

package ptytest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/services/ptytest"
)

func TestScreenShowsWhatAPersonSees(t *testing.T) {
	const written = "\x1b[1mplan\x1b[m → box\r\nabc\rX\x1b[K\r\n12\x1b7\r9\x1b83\b4"
	want := []string{"plan → box", "X", "924"}
	var whole, bytewise ptytest.Screen
	whole.Write([]byte(written))
	for i := range len(written) {
		bytewise.Write([]byte{written[i]})
	}
	for _, s := range []*ptytest.Screen{&whole, &bytewise} {
		if diff := cmp.Diff(want, s.Lines()); diff != "" {
			t.Errorf("the screen differs (-want +got):\n%s", diff)
		}
	}
}
