//go:build linux

package lab

import "testing"

// InnerWorld hands the world that TestMain entered to the tests inside the package.
var InnerWorld *World

func needInner(t *testing.T) *World {
	t.Helper()
	if InnerWorld == nil {
		t.Skip("needs namespaces: run make test-root")
	}
	return InnerWorld
}
