//go:build linux

// Command measure prints what goes through a box with the image's kernel, with and
// without rules and flowtable: see package throughput. It is started in the top folder
// of the sources, and builds the kernel if no cache has it. Environment: as mkkernel's.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"bulkhead/images/kernel"
	"bulkhead/images/kernel/throughput"
)

func main() {
	rounds := flag.Int("rounds", 25, "`number` of rounds; the median counts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int) error {
	arch, err := kernel.ArchByName(cmp.Or(os.Getenv("ARCH"), runtime.GOARCH))
	if err != nil {
		return err
	}
	options, err := kernel.FromEnvironment(arch)
	if err != nil {
		return err
	}
	options.Out = os.Stderr
	k, err := kernel.Make(ctx, options)
	if err != nil {
		return err
	}
	o := throughput.Options{Arch: arch, Kernel: k, Config: "configs/zero-trust.yaml", Rounds: rounds}
	ways, err := throughput.Measure(ctx, o)
	if err != nil {
		return err
	}
	return throughput.Print(os.Stdout, o, ways)
}
