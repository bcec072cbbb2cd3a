package start_test

import (
	"log"
	"strings"
	"testing"

	"bulkhead/images/build/start"
)

func TestKernelTakesEachLineOfTheLog(t *testing.T) {
	var kmsg strings.Builder
	l := log.New(start.KernelLog(&kmsg), "", 0)
	l.Print("gokrazy: attempt 7")
	l.Print(strings.Repeat("x", 5000))
	if want := "<6>gokrazy: attempt 7<6>" + strings.Repeat("x", 900); kmsg.String() != want {
		t.Errorf("got %q, want %q", kmsg.String(), want)
	}
}
