package main

import (
	"cmp"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/images/lab"
)

func newLabVMCommand() *cobra.Command {
	var o lab.RunVMOptions
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Run the image in QEMU, with clients in network namespaces around it",
		Long: `Boots the image in a virtual machine, behind a switch with VLANs: its ports are
plugged into clients in network namespaces and a pretended internet. Claims the box
and gives it the configuration, as its owner would, prints who got which address and
what reaches what, measured with real packets over tagged VLANs, and stays until
Ctrl-C.

Needs root. Where the processor cannot run it, the machine is emulated.

Exit codes: 0 all as the policy says, 1 a packet was treated otherwise, 3 the lab
did not come up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bin, err := binaries()
			if err != nil {
				return err
			}
			w, err := lab.Enter()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			o.Bin, o.Printer, o.Command = bin, &lab.Printer{W: os.Stdout, Color: colorful(os.Stdout)}, labCommand()
			o.Image = cmp.Or(o.Image, "out/bulkhead-"+o.Arch+".img")
			err = lab.RunVM(ctx, w, o)
			if errors.Is(err, lab.ErrWrong) {
				return errShown
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&o.File, "config", "c", "configs/zero-trust.yaml", "configuration `file`")
	cmd.Flags().StringVar(&o.Image, "image", "", "disk image `file`; default: out/bulkhead-ARCH.img")
	cmd.Flags().StringVar(&o.Arch, "arch", runtime.GOARCH, "`architecture` of the image: amd64 or arm64")
	cmd.Flags().IntVar(&o.Memory, "memory", 256, "memory of the machine in `MiB`")
	cmd.Flags().BoolVar(&o.Once, "once", false, "end after the matrix")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	_ = cmd.MarkFlagFilename("image", "img")
	return cmd
}

// labCommand is how the program was called, for advice.
func labCommand() string {
	if os.Getenv("SUDO_UID") != "" {
		return "sudo " + os.Args[0]
	}
	return os.Args[0]
}
