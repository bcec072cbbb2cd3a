//go:build linux

// Command guest is the init process of the machines that this package's tests start.
// It obeys orders from the serial line. It is never part of an image.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is started as init, by the tests of package vm")
		os.Exit(2)
	}
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}} {
		err := errors.Join(os.MkdirAll(m[1], 0o755), unix.Mount(m[0], m[1], m[0], 0, ""))
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel mounts /dev by itself
			fmt.Println("guest: mount:", err)
		}
	}
	fmt.Println("guest: ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		order, argument, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		answer, err := obey(order, argument)
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Printf("guest: %s: %s.\n", order, answer)
	}
	select {} // the kernel panics when init ends
}

const disk = "/dev/vda"

func obey(order, argument string) (string, error) {
	switch order {
	case "write": // and flush
		f, err := os.OpenFile(disk, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = f.Write(append([]byte(argument), 0))
		return "done", errors.Join(err, f.Sync())
	case "read":
		f, err := os.Open(disk)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b := make([]byte, 512)
		n, err := f.Read(b)
		text, _, _ := bytes.Cut(b[:n], []byte{0})
		return string(text), err
	case "carrier":
		name, want, _ := strings.Cut(argument, " ")
		i, err := net.InterfaceByName(name)
		if err != nil {
			return "", err
		}
		up, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(up)
		req, err := unix.NewIfreq(i.Name)
		if err != nil {
			return "", err
		}
		req.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(up, unix.SIOCSIFFLAGS, req); err != nil {
			return "", err
		}
		return carrier(i.Name, want)
	case "hang": // with a watchdog that wants to be fed
		f, err := os.OpenFile("/dev/watchdog0", os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		return "now", unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, 1)
	case "off":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	return "", fmt.Errorf("unknown order %q", order)
}

// carrier waits until a link has a carrier ("1") or none ("0") as wanted, and returns
// which it has. The driver learns of a cable some time after it was moved.
func carrier(link, want string) (string, error) {
	for patience := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile("/sys/class/net/" + link + "/carrier")
		got := strings.TrimSpace(string(text))
		if err != nil || got == want || time.Now().After(patience) {
			return got, err
		}
	}
}
