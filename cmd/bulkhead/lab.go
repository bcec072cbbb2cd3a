package main

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/images/lab"
)

// newLabCommand makes "bulkhead lab" and what is below it.
func newLabCommand() *cobra.Command {
	var o lab.RunOptions
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run a gateway with clients in network namespaces and measure what reaches what",
		Long: `Builds a gateway with the real daemons, a pretended internet and a client in every
zone, all in namespaces of their own, prints who got which address and what
reaches what, measured with real packets, and stays until Ctrl-C.

Needs root. Nothing of the machine's own network is touched, and nothing is left
behind, however the lab ends.

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
			err = lab.Run(ctx, w, o)
			if errors.Is(err, lab.ErrWrong) {
				return errShown
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&o.File, "config", "c", "configs/zero-trust.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&o.Once, "once", false, "end after the matrix")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // fails for unknown flags only
	cmd.AddCommand(newLabVMCommand(), newLabExecCommand(), newLabBenchCommand())
	return cmd
}

func newLabExecCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec HOST -- COMMAND [ARGUMENT...]",
		Short: "Run a command on a host of the running lab",
		Example: `  bulkhead lab exec tv -- dig nas.home.arpa
  bulkhead lab exec gw -- nft list table inet bulkhead`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			bin, err := binaries()
			if err != nil {
				return err
			}
			// So that "bulkhead" is a command there, and knows the box.
			err1 := os.Setenv("PATH", bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
			err2 := os.Setenv("XDG_CONFIG_HOME", lab.Home)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			code, err := lab.Attach(args[0], args[1:])
			if err != nil {
				return err
			}
			os.Exit(code)
			return nil
		},
	}
}

// binaries is where the daemons are: beside this program.
func binaries() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(exe)
	if _, err := os.Stat(filepath.Join(dir, "netcfgd")); err != nil {
		return "", errors.Join(errors.New("the daemons are not beside this program: run make build"), err)
	}
	return dir, nil
}
