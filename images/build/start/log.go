package start

import (
	"bytes"
	"io"
	"log"
	"os"
)

// quieten moves what gokrazy says from now on to the kernel's log. It tells of every
// start of every service, over and over of one that fails; on the console that would
// hide the rescue menu just when somebody needs it. With ignore_loglevel on its
// command line the kernel shows it there all the same.
func quieten() error {
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	log.SetOutput(kernelLog{kmsg})
	return nil
}

// kernelLog passes lines to /dev/kmsg, each in one write, as information.
type kernelLog struct{ kmsg io.Writer }

// maxLine is how long a line may be: the kernel refuses what is longer than 1,024
// bytes with what it adds (LOG_LINE_MAX in kernel/printk/printk.c).
const maxLine = 900

func (k kernelLog) Write(p []byte) (int, error) {
	line := bytes.TrimRight(p, "\n")
	line = line[:min(len(line), maxLine)]
	if _, err := k.kmsg.Write(append([]byte("<6>"), line...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
