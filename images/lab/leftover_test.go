//go:build linux

package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// command is a lab started by hand, as make lab does.
type command struct {
	*exec.Cmd
	out *bufio.Reader
}

func startCommand(t *testing.T, args ...string) *command {
	t.Helper()
	if world == nil {
		t.Skip("needs namespaces: run make test-root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), "bulkhead"), append([]string{"lab", "-c", "../../configs/small.yaml"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &command{cmd, bufio.NewReader(out)}
}

// readUntil reads lines until one holds the text.
func (c *command) readUntil(t *testing.T, text string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := c.out.ReadString('\n')
		all.WriteString(line)
		if strings.Contains(line, text) {
			return all.String()
		}
		if err != nil {
			t.Fatalf("no line with %q: %v\n%s", text, err, all.String())
		}
	}
}

// descendants lists all processes below one, itself left out.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := make(map[int][]int)
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		children[parent] = append(children[parent], child)
	}
	var all []int
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// awaitEnd returns when none of the processes runs any more.
func awaitEnd(t *testing.T, pids []int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // looking is all one can do
		left := slices.DeleteFunc(slices.Clone(pids), func(p int) bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
			return err != nil || bytes.Contains(b, []byte(") Z "))
		})
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still running: %v", left)
		}
	}
}

func labDirs(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("/run/bulkhead-lab/*")
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// TestKilledLabLeavesNothing kills a lab's outer process so that it can clean nothing
// up. The kernel ends everything in the lab's namespaces, and the next start removes
// the one directory.
func TestKilledLabLeavesNothing(t *testing.T) {
	c := startCommand(t)
	c.readUntil(t, "Ctrl-C ends the lab")
	inside := descendants(t, c.Process.Pid)
	if len(inside) < 8 {
		t.Fatalf("only %d processes in the lab", len(inside))
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	awaitEnd(t, inside)

	again := startCommand(t, "--once")
	again.readUntil(t, "treated as the policy says")
	if err := again.Wait(); err != nil {
		t.Error(err)
	}
	if dirs := labDirs(t); len(dirs) > 0 {
		t.Errorf("left behind: %v", dirs)
	}
}

// TestInterruptedLabEndsWell presses Ctrl-C, after a look around.
func TestInterruptedLabEndsWell(t *testing.T) {
	c := startCommand(t)
	c.readUntil(t, "Ctrl-C ends the lab")
	inside := descendants(t, c.Process.Pid)
	look := exec.Command(c.Path, "lab", "exec", "home-pc", "--", "dig", "+short", "gw.home.arpa")
	out, err := look.Output()
	if err != nil || string(out) != "192.168.10.1\n" {
		t.Errorf("the box's name is %q (%v), want its address in the zone", out, err)
	}
	if err := exec.Command(c.Path, "lab", "exec", "gw", "--", "sh", "-c", "exit 7").Run(); err == nil || err.Error() != "exit status 7" {
		t.Errorf("a command that exits with 7: %v", err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	awaitEnd(t, inside)
	if dirs := labDirs(t); len(dirs) > 0 {
		t.Errorf("left behind: %v", dirs)
	}
}
