//go:build linux

package privdrop_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/services/privdrop"
)

// yieldAndLimit yields in its first life only, and prints the nice values of all of the
// second one's threads.
func yieldAndLimit() {
	const yielded = "YIELDED"
	var err error
	if os.Getenv(yielded) == "" {
		err = errors.Join(os.Setenv(yielded, "1"), privdrop.Yield())
	}
	if err := errors.Join(err, privdrop.Limit([]int{id})); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	threads, _ := filepath.Glob("/proc/self/task/*/stat")
	for _, t := range threads {
		stat, err := os.ReadFile(t)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fmt.Println("nice", strings.Fields(rest)[16]) // proc_pid_stat(5)
	}
	os.Exit(0)
}

func TestSecondLifeYieldsWithAllItsThreads(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"LIFE=behind"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := strings.Count(string(out), "\n")
	if n == 0 || strings.Count(string(out), "nice 10\n") != n {
		t.Errorf("the threads have\n%s", out)
	}
}
