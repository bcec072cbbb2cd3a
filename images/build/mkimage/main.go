// Command mkimage builds the image of the appliance into the folder out. Environment:
// ARCH (amd64 or arm64; default: this machine's), KERNEL_SOURCE and KERNEL_CACHE (see
// mkkernel), SOURCE_DATE_EPOCH (default: the time of the commit).
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

	"bulkhead/images/build"
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
	cache, err := kernel.CacheDir()
	if err != nil {
		return err
	}
	_, err = unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	k, err := kernel.Make(ctx, kernel.Options{
		Arch: arch, Source: os.Getenv("KERNEL_SOURCE"), Shared: os.Getenv("KERNEL_CACHE"), Cache: cache,
		Out: os.Stderr, Terminal: err == nil,
	})
	if err != nil {
		return err
	}
	r, err := build.Build(ctx, build.Options{Arch: arch.Name, Tree: ".", Out: "out", Kernel: k.Dir, Log: os.Stderr})
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n%d MB of payload\n", r.Image, r.Archive, r.Payload/1_000_000)
	return nil
}
