//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hardware waits until everything is there that the test has plugged in. Each line
// of /hardware is a pattern of names under /sys, and what one of them has to hold,
// or lead to as a link; with nothing after the pattern, that there is one.
func hardware() error {
	text, err := os.ReadFile("/hardware")
	if err != nil {
		return err
	}
	var errs []error
	deadline := time.Now().Add(20 * time.Second) // USB disks come last
	for line := range strings.Lines(string(text)) {
		pattern, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		for !holds("/sys/"+pattern, want) {
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("not found: %s %s", pattern, want))
				break
			}
			time.Sleep(100 * time.Millisecond) // nothing in the guest tells of new devices
		}
	}
	return errors.Join(errs...)
}

func holds(pattern, want string) bool {
	names, err := filepath.Glob(pattern)
	if err != nil || want == "" {
		return len(names) > 0
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil && filepath.Base(target) == want {
			return true
		}
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == want {
			return true
		}
	}
	return false
}
