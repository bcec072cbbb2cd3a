package main

import (
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/images/lab"
	"bulkhead/images/lab/bench"
)

func newLabBenchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure scale, packet cost, throughput, memory and the image's start",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Bin, err = binaries(); err != nil {
				return err
			}
			w, err := lab.Enter()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			o.W = os.Stdout
			return bench.Run(ctx, w, o)
		},
	}
	cmd.Flags().StringVarP(&o.File, "config", "c", "configs/zero-trust.yaml", "configuration `file` of the lab whose memory is measured")
	cmd.Flags().StringVar(&o.Image, "image", "out/bulkhead-"+runtime.GOARCH+".img", "disk image `file` whose start is measured")
	cmd.Flags().IntVar(&o.Rounds, "rounds", 15, "how often each measurement is repeated; the median counts")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "`parts` to measure, of "+strings.Join(bench.Parts(), ", ")+"; default: all")
	return cmd
}
