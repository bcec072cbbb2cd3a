//go:build linux

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/netcfg/nstest"
)

// asLimited makes the test binary limit itself and print what is left.
const asLimited = "BULKHEAD_TEST_LIMITED"

func TestMain(m *testing.M) {
	if os.Getenv(asLimited) == "" {
		os.Exit(m.Run())
	}
	if err := limit(); err != nil {
		panic(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(status)
}

func TestOnlyTheRightsThatAreNeededStay(t *testing.T) {
	nstest.New(t) // skips where we are not root
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asLimited+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	// CAP_CHOWN 0, CAP_DAC_OVERRIDE 1, CAP_FOWNER 3, CAP_FSETID 4, CAP_NET_ADMIN 12.
	const kept = "000000000000101b"
	for _, want := range []string{"CapPrm:\t" + kept, "CapEff:\t" + kept, "CapBnd:\t" + kept, "CapInh:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
