//go:build linux

package lab_test

import (
	"fmt"
	"os"
	"testing"

	"bulkhead/images/lab"
)

// world is where the tests of this package run; nil without BULKHEAD_NEED_ROOT.
var world *lab.World

// TestMain moves the tests that need namespaces into a world of their own, so that
// they can leave nothing behind. They are for make test-root only: a lab is no unit
// test, and the race detector would only slow the packets down.
func TestMain(m *testing.M) {
	if os.Getenv("BULKHEAD_NEED_ROOT") != "" {
		var err error
		if world, err = lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	lab.InnerWorld = world
	os.Exit(m.Run())
}

func needWorld(t *testing.T) {
	t.Helper()
	if world == nil {
		t.Skip("needs namespaces: run make test-root")
	}
}
