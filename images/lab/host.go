//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is one machine of the lab: a network, a host name and an /etc of its own.
type Host struct {
	Name          string
	net, mnt, uts *os.File
	etc           string // where its /etc is, seen from the world
	world         *World
}

// hostFDs are the file descriptors of the world's first process that hold a host's
// namespaces.
type hostFDs struct{ Net, Mount, UTS int }

func (h *Host) fds() hostFDs {
	return hostFDs{h.NetNS(), int(h.mnt.Fd()), int(h.uts.Fd())}
}

// nsFile is an open namespace.
type nsFile struct {
	file *os.File
	kind int // CLONE_NEW…
}

// onThread runs f on a thread inside the namespaces. The thread ends with it, so
// that nothing else can ever run in the wrong place. Commands started by f inherit
// the namespaces, and sockets opened by f stay in them.
func onThread(ns []nsFile, f func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		// A thread that shares its working directory with others may not change
		// its mount namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			c <- fmt.Errorf("unshare: %w", err)
			return
		}
		for _, n := range ns {
			if err := unix.Setns(int(n.file.Fd()), n.kind); err != nil {
				c <- fmt.Errorf("enter %s: %w", n.file.Name(), err)
				return
			}
		}
		c <- f()
	}()
	return <-c
}

// NewHost makes a host with a loopback interface and nothing else.
func (w *World) NewHost(name string) (*Host, error) {
	h := &Host{Name: name, etc: "/run/hosts/" + name + "/etc", world: w}
	err := onThread(nil, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Sethostname([]byte(name)); err != nil {
			return err
		}
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		// What /sys shows of the network is that of whoever mounted it.
		if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
		if err := ownEtc(h.etc, name); err != nil {
			return err
		}
		task := fmt.Sprintf("/proc/self/task/%d/ns/", unix.Gettid())
		for _, n := range []struct {
			f    **os.File
			name string
		}{{&h.net, "net"}, {&h.mnt, "mnt"}, {&h.uts, "uts"}} {
			f, err := os.Open(task + n.name)
			if err != nil {
				return err
			}
			*n.f = f
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	if err := h.nameForIP(); err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	w.hosts = append(w.hosts, h)
	return h, nil
}

// nameForIP makes the host's network known to ip(8) under its name.
func (h *Host) nameForIP() error {
	path := "/run/netns/" + h.Name
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.net.Fd()), path, "", unix.MS_BIND, "")
}

// ownEtc replaces /etc in this mount namespace by a directory of links into the
// machine's, read-only, so that a DHCP client may write /etc/resolv.conf in its
// own way (dhclient's script by rename) and can write nothing of the machine's.
func ownEtc(etc, name string) error {
	lower := filepath.Join(filepath.Dir(etc), "machine")
	for _, d := range []string{etc, lower} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("/etc", lower, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /etc: %w", err)
	}
	if err := unix.Mount("", lower, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make /etc read-only: %w", err)
	}
	entries, err := os.ReadDir(lower)
	if err != nil {
		return err
	}
	own := map[string]string{
		"resolv.conf": "",
		"hostname":    name + "\n",
		"hosts":       "127.0.0.1 localhost\n127.0.1.1 " + name + "\n",
	}
	for file, text := range own {
		if err := os.WriteFile(filepath.Join(etc, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if _, ok := own[e.Name()]; ok {
			continue
		}
		target := filepath.Join(lower, e.Name())
		if e.Type()&os.ModeSymlink != 0 { // relative ones would miss from there
			if target, err = os.Readlink(target); err != nil {
				return err
			}
		}
		if err := os.Symlink(target, filepath.Join(etc, e.Name())); err != nil {
			return err
		}
	}
	return unix.Mount(etc, "/etc", "", unix.MS_BIND, "")
}

// Resolvers returns the name servers that the host uses now.
func (h *Host) Resolvers() []string {
	b, err := os.ReadFile(filepath.Join(h.etc, "resolv.conf"))
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" {
			list = append(list, f[1])
		}
	}
	return list
}

// NetNS is a file descriptor of the host's network namespace, as long as the host
// is there.
func (h *Host) NetNS() int { return int(h.net.Fd()) }

// Remove gives a host up. Its namespaces go with the last program in them.
func (w *World) Remove(h *Host) {
	w.hosts = slices.DeleteFunc(w.hosts, func(o *Host) bool { return o == h })
	path := "/run/netns/" + h.Name
	err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path), os.RemoveAll(filepath.Dir(h.etc)),
		h.net.Close(), h.mnt.Close(), h.uts.Close())
	if err != nil {
		panic(err) // made by us, used by us
	}
}

// namespaces of the host, in the order in which to enter them.
func (h *Host) namespaces() []nsFile {
	return []nsFile{{h.net, unix.CLONE_NEWNET}, {h.uts, unix.CLONE_NEWUTS}, {h.mnt, unix.CLONE_NEWNS}}
}

// Do runs f on a thread that is inside the host's network. Sockets that f opens
// stay there.
func (h *Host) Do(f func() error) error {
	return onThread([]nsFile{{h.net, unix.CLONE_NEWNET}}, f)
}

// As is like Do with the sockets belonging to the user with the given ID, as the
// packet filter sees it; no other right changes.
func (h *Host) As(uid int, f func() error) error {
	return h.Do(func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0); errno != 0 {
			return errno
		}
		return f()
	})
}

// Start starts a command inside the host.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	return onThread(h.namespaces(), cmd.Start)
}

// Output runs a command inside the host and returns what it wrote to its standard
// output. The error holds what it wrote to its standard error.
func (h *Host) Output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	return h.output(cmd, func() error { return h.Start(cmd) })
}

// IP runs lines of ip(8)'s batch syntax in the host's network. They may name other
// hosts after netns.
func (h *Host) IP(batch string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	// Only the world's own mounts show the names of all hosts.
	if _, err := h.output(cmd, func() error { return h.Do(cmd.Start) }); err != nil {
		return fmt.Errorf("%w\n%s", err, batch)
	}
	return nil
}

func (h *Host) output(cmd *exec.Cmd, start func() error) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", h.Name, strings.Join(cmd.Args, " "), err)
		if msg := strings.TrimSpace(errOut.String()); msg != "" {
			err = errors.Join(err, errors.New(msg))
		}
	}
	return out.String(), err
}

// Sysctl sets a setting of the host's network, such as net/ipv4/ip_forward.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644) })
}
