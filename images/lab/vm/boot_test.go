//go:build linux

package vm_test

import (
	"context"
	"testing"
	"time"
)

// TestBoxComesBackAfterLossOfPower cuts the power of a box that serves, and waits for
// it to serve every zone again, without anybody's help.
func TestBoxComesBackAfterLossOfPower(t *testing.T) {
	if world == nil {
		t.Skip("takes a minute: run make test-vm")
	}
	b := startLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stages, err := b.Reboot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stages {
		t.Logf("%6.2f s  %s", s.At.Seconds(), s.Name)
	}
	if _, err := b.API.Status(ctx); err != nil {
		t.Error(err)
	}
}
