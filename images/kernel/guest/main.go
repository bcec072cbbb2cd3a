//go:build linux

// Command guest is the init process of the machine that the kernel's test starts. It
// tries what Bulkhead asks of a kernel, prints a line for each and switches the
// machine off. With the arguments "measure" and a number it measures so many times
// instead what goes through a box. It is never part of an image.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/images/kernel"
)

// checks are tried in this order: those that want an untouched network come first.
var checks = []struct {
	name string
	try  func() error
}{
	{"mounts", mounts},
	{"config", config},
	{"no way into the kernel", closed},
	{"landlock", landlock},
	{"lockdown", lockdown},
	{"file systems", fileSystems},
	{"hardware", hardware},
	{"disks", disks},
	{"links", links},
	{"queues", queues},
	{"pppoe", pppoe},
	{"flowtable", flowtable},
	{"nflog and ctnetlink", nflog},
	{"zones", zones},
	{"offload", offload},
	{"agreement with nft", agree},
}

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is started as init, by the test of package kernel")
		os.Exit(2)
	}
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	fmt.Printf("guest: init after %.1f s\n", time.Duration(up.Nano()).Seconds())
	if len(os.Args) == 3 && os.Args[1] == "measure" {
		rounds, _ := strconv.Atoi(os.Args[2])
		report("mounts", mounts())
		report("measure", measure(rounds))
	} else {
		for _, c := range checks {
			report(c.name, c.try())
		}
	}
	fmt.Println("guest: done")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the kernel panics when init ends
}

func report(name string, err error) {
	if err != nil {
		fmt.Printf("guest: FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		fmt.Printf("guest: ok %s\n", name)
	}
}

// arch is the architecture as [kernel.ArchByName] knows it.
func arch() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	fmt.Printf("guest: %s %s\n", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]))
	switch m := unix.ByteSliceToString(u.Machine[:]); m {
	case "x86_64":
		return "amd64", nil
	case "aarch64":
		return "arm64", nil
	default:
		return "", fmt.Errorf("unknown machine %s", m)
	}
}

// config holds the running kernel against needed.txt.
func config() error {
	name, err := arch()
	if err != nil {
		return err
	}
	c, err := kernel.Running()
	if err != nil {
		return err
	}
	needs, err := kernel.Needs()
	if err != nil {
		return err
	}
	if missing := kernel.Missing(needs, name, c); len(missing) > 0 {
		return fmt.Errorf("%s", strings.Join(missing, "; "))
	}
	return nil
}
