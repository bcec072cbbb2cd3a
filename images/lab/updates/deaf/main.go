// Command deaf takes the place of a daemon in an image that must not be kept: it runs,
// and answers nobody.
package main

import "time"

func main() {
	for {
		time.Sleep(time.Hour) // the runtime ends a program that waits for nothing
	}
}
