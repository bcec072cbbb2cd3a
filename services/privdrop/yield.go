//go:build linux

package privdrop

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// behind is the nice value of what yields: it gets a tenth of the processor beside a
// program that does not, and all of it beside none. See sched(7).
const behind = 10

// Yield makes the running program, and what it executes, leave the processor to others
// while they want it. It is for what only manages the box: a zone must not wait for its
// names, least of all while everything starts at once, because a page is drawn.
func Yield() error {
	// Linux keeps priorities per thread. A new one has that of its creator, so there
	// are no more to lower once a pass has found none.
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list own threads: %w", err)
		}
		lowered := false
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return fmt.Errorf("list own threads: %w", err)
			}
			// The system call returns 20 less the nice value: getpriority(2).
			left, err := unix.Getpriority(unix.PRIO_PROCESS, id)
			if err == nil && left > 20-behind {
				err = unix.Setpriority(unix.PRIO_PROCESS, id, behind)
				lowered = true
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended meanwhile
				return fmt.Errorf("lower the priority of thread %d: %w", id, err)
			}
		}
		if !lowered {
			return nil
		}
	}
}
