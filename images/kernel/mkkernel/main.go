// Command mkkernel builds the kernel of the image, or finds it in a cache, and prints
// the folder it is in. Environment: ARCH (amd64 or arm64; default: this machine's),
// KERNEL_SOURCE (folder of another kernel source), KERNEL_CACHE (further cache,
// looked at first, never written).
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"bulkhead/images/kernel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	arch, err := kernel.ArchByName(cmp.Or(os.Getenv("ARCH"), runtime.GOARCH))
	if err != nil {
		return err
	}
	o, err := kernel.FromEnvironment(arch)
	if err != nil {
		return err
	}
	_, err = unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	o.Out, o.Terminal = os.Stderr, err == nil
	k, err := kernel.Make(ctx, o)
	if err != nil {
		return err
	}
	fmt.Println(k.Dir)
	return nil
}
