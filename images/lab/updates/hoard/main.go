// Command hoard fills /perm while a client of DHCP is called fill-the-disk, and makes
// room again once it is not. It is in images of tests only.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"time"
)

const (
	leases = "/run/bulkhead/dhcpd/leases.json"
	filler = "/perm/filler"
)

func main() {
	for full := false; ; time.Sleep(100 * time.Millisecond) {
		data, _ := os.ReadFile(leases) // none: nobody is called so
		switch want := bytes.Contains(data, []byte("fill-the-disk")); {
		case want && !full:
			fill()
			full = true
			say("/perm is full")
		case !want && full:
			full = os.Remove(filler) != nil
			say("there is room")
		}
	}
}

// say writes on the console, past gokrazy's log.
func say(text string) {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "hoard: %s\r\n", text)
}

// fill writes until nothing goes any more.
func fill() {
	f, err := os.Create(filler)
	if err != nil {
		return
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	for n := len(block); n > 0; {
		if _, err := f.Write(block[:n]); err != nil {
			n /= 2
		}
	}
}
