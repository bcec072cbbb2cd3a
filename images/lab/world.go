//go:build linux

package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where the labs of a machine are known: one directory each, named by the process
// ID of the outer process, which holds a lock on it for as long as it lives.
const labsDir = "/run/bulkhead-lab"

// innerDir is where a lab sees its directory.
const innerDir = "/run/lab"

// worldEnv tells the re-executed program which directory it was given.
const worldEnv = "BULKHEAD_LAB_DIR"

// World is a place apart: namespaces of its own for processes, mounts, network,
// IPC and host name. When its first process ends, by whatever means, the kernel
// ends all others in it and nothing of its links, rules and mounts remains.
type World struct {
	// Dir is for files of this lab: logs, states, leases. It is removed in the end.
	Dir   string
	hosts []*Host
}

// Enter moves the running program into a new World. It does so by executing the
// program again, with the same arguments, as the first process of the new
// namespaces; there, Enter returns. In the process that called first it never
// returns: that one passes signals on, cleans up and exits with the code of the
// inner one.
//
// Directories left by labs whose processes were killed are removed on the way.
// The error wraps [fs.ErrPermission] without root.
func Enter() (*World, error) {
	if dir := os.Getenv(worldEnv); dir != "" && os.Getpid() == 1 {
		return furnish(dir)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("the lab makes network namespaces and needs root: %w", fs.ErrPermission)
	}
	sweep(labsDir)
	code, err := outer()
	if err != nil {
		return nil, err
	}
	os.Exit(code)
	panic("unreachable")
}

// outer runs the program again inside new namespaces and returns its exit code.
func outer() (int, error) {
	dir := filepath.Join(labsDir, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	lock, err := lockDir(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	// The death signal is sent when the thread that forked ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), worldEnv+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // Ctrl-C reaches the outer process only, which passes it on once
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		return 0, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // it may have ended already
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if exit.ExitCode() >= 0 {
			return exit.ExitCode(), nil
		}
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal()), nil
	}
	return 0, err
}

// lockDir takes the lock of a lab's directory without waiting for it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// sweep removes the directories of labs whose outer process is gone. Nothing else
// can be left of them.
func sweep(labs string) {
	entries, _ := os.ReadDir(labs) // none yet
	for _, e := range entries {
		dir := filepath.Join(labs, e.Name())
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir) // the next start tries again
			lock.Close()
		}
	}
}

// furnish prepares the mounts of a new world. /run is fresh, so that neither
// DHCP clients' hooks nor our daemons meet anything of the machine's.
func furnish(dir string) (*World, error) {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	keep, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer keep.Close()
	steps := []struct {
		what string
		do   func() error
	}{
		{"mount /run", func() error { return unix.Mount("lab", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") }},
		{"make " + innerDir, func() error { return os.Mkdir(innerDir, 0o755) }},
		{"bind " + innerDir, func() error {
			return unix.Mount(fmt.Sprintf("/proc/%d/fd/%d", outerView(), keep.Fd()), innerDir, "", unix.MS_BIND, "")
		}},
		{"mount /proc", func() error {
			return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
		{"make /run/netns", func() error { return os.MkdirAll("/run/netns", 0o755) }},
		{"name the world", func() error { return unix.Sethostname([]byte("bulkhead-lab")) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return nil, fmt.Errorf("lab: %s: %w", s.what, err)
		}
	}
	return &World{Dir: innerDir}, nil
}

// outerView is the process ID under which /proc, still that of the outer process
// namespace, shows this process.
func outerView() int {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return os.Getpid()
	}
	pid, _ := strconv.Atoi(self) // the kernel writes nothing else
	return pid
}

// register writes down how to find each host's namespaces from outside.
func (w *World) register() error {
	out := make(map[string]hostFDs)
	for _, h := range w.hosts {
		out[h.Name] = h.fds()
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	tmp := filepath.Join(w.Dir, ".hosts")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(w.Dir, "hosts.json"))
}

// Attach finds a running lab and prepares the command to run in one of its hosts.
// With several labs on the machine the one started last is taken. It returns the
// command's exit code. The error wraps [fs.ErrNotExist] if no lab is running, and
// names the hosts there are if there is none of that name.
func Attach(host string, args []string) (int, error) {
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("entering the lab needs root: %w", fs.ErrPermission)
	}
	pid, hosts, err := running()
	if err != nil {
		return 0, err
	}
	fds, ok := hosts[host]
	if !ok {
		names := make([]string, 0, len(hosts))
		for n := range hosts {
			names = append(names, n)
		}
		slices.Sort(names)
		return 0, fmt.Errorf("no host %q in the lab; there are %s", host, strings.Join(names, ", "))
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	var ns []nsFile
	for _, n := range []struct {
		path string
		kind int
	}{
		{proc + "/ns/pid", unix.CLONE_NEWPID},
		{proc + "/ns/ipc", unix.CLONE_NEWIPC},
		{fmt.Sprintf("%s/fd/%d", proc, fds.Net), unix.CLONE_NEWNET},
		{fmt.Sprintf("%s/fd/%d", proc, fds.UTS), unix.CLONE_NEWUTS},
		{fmt.Sprintf("%s/fd/%d", proc, fds.Mount), unix.CLONE_NEWNS},
	} {
		f, err := os.Open(n.path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		ns = append(ns, nsFile{f, n.kind})
	}
	return runIn(ns, args)
}

// runIn runs a command of the foreground in the namespaces.
func runIn(ns []nsFile, args []string) (int, error) {
	var cmd *exec.Cmd
	err := onThread(ns, func() error {
		cmd = exec.Command(args[0], args[1:]...)
		cmd.Dir = "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Start()
	})
	if err != nil {
		return 0, err
	}
	// The terminal sends the command Ctrl-C itself; this process outlives it.
	signal.Ignore(os.Interrupt, syscall.SIGQUIT)
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return cmp.Or(max(exit.ExitCode(), 0), 1), nil
	}
	return 0, err
}

// running finds the lab started last: its first process and its hosts.
func running() (pid int, hosts map[string]hostFDs, err error) {
	entries, _ := os.ReadDir(labsDir)
	var newest os.FileInfo
	for _, e := range entries {
		dir := filepath.Join(labsDir, e.Name())
		fi, err := os.Stat(filepath.Join(dir, "hosts.json"))
		if err != nil || newest != nil && fi.ModTime().Before(newest.ModTime()) {
			continue
		}
		if lock, err := lockDir(dir); err == nil { // nobody holds it
			lock.Close()
			continue
		}
		p, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "hosts.json"))
		if err != nil {
			continue
		}
		var h map[string]hostFDs
		if json.Unmarshal(b, &h) != nil {
			continue
		}
		n, err := strconv.Atoi(string(p))
		if err != nil {
			continue
		}
		newest, pid, hosts = fi, n, h
	}
	if newest == nil {
		return 0, nil, fmt.Errorf("no lab is running: start one with make lab: %w", fs.ErrNotExist)
	}
	return pid, hosts, nil
}
