// Command hang is an init for images that must not be kept. By the command line of the
// kernel it ends at once, which is a panic, or arms the hardware's watchdog, as
// gokrazy's init does, and then does nothing more.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	for dir, kind := range map[string]string{"/dev": "devtmpfs", "/proc": "proc"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
			fmt.Println("hang:", dir, err) // the kernel may have done so already
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil || !strings.Contains(string(cmdline), "hang=watchdog") {
		fmt.Println("hang: the end")
		return
	}
	f, err := os.OpenFile("/dev/watchdog", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("hang:", err)
		return
	}
	if _, err := f.Write([]byte{0}); err != nil {
		fmt.Println("hang:", err)
	}
	fmt.Println("hang: the watchdog is armed")
	for {
		time.Sleep(time.Hour)
	}
}
