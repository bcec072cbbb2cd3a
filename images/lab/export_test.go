//go:build linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// InnerWorld hands the world that TestMain entered to the tests inside the package.
var InnerWorld *World

func needInner(t *testing.T) *World {
	t.Helper()
	if InnerWorld == nil {
		t.Skip("needs namespaces: run make test-root")
	}
	return InnerWorld
}

// Programs is where the daemons are: make test-root has built them. Without it the
// test builds them itself.
func Programs(t testing.TB, w *World) string {
	t.Helper()
	if dir := os.Getenv("BULKHEAD_BIN"); dir != "" {
		return dir
	}
	dir := filepath.Join(w.Dir, "bin")
	cmd := exec.Command("go", "build", "-o", dir+"/", "bulkhead/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
