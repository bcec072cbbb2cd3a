package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the program itself in processes that the tests start for it.
func TestMain(m *testing.M) {
	if os.Getenv("BULKHEAD_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestSignalsEndAProgramThatReads(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "check", "-")
		cmd.Env = append(os.Environ(), "BULKHEAD_TEST_MAIN=1")
		cmd.WaitDelay = 10 * time.Second
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds: once it is written, the program reads.
		if _, err := in.Write(make([]byte, 1<<18)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != sig {
			t.Errorf("%v: got %v, want death by the signal", sig, exit)
		}
	}
}
