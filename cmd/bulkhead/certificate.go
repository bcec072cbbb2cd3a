package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/webui/remote"
)

func (a *app) certificateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "certificate [NAME]",
		Short: "Have a client certificate made for this workstation",
		Long: `Have a box that was claimed from here make a client certificate for this workstation,
and keep it beside the token, in place of one that there may be: it is good for two
years. NAME is how the box calls it; without it, the host's name.

A box whose configuration says system.admin.client-certificates: required serves nobody
who shows none. Have certificates made before that is so. One that was lost or has ended
cannot be replaced by this: set a new claim code at the box's console, and claim the box
again, which brings a certificate. Browsers get theirs in the web UI, under Account.

` + exitHelp,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			label, err := os.Hostname()
			if len(args) > 0 {
				label, err = args[0], nil
			}
			if err != nil {
				return err
			}
			return a.certify(cmd.Context(), label)
		},
	}
}

func (a *app) certify(ctx context.Context, label string) error {
	p, err := a.profile(ctx)
	if err != nil {
		return err
	}
	if p.Lent {
		return fmt.Errorf("%w: a certificate is kept beside the token of a box that was claimed from here, and not for a token of the environment", errUsage)
	}
	all, err := remote.Open()
	if err != nil {
		return err
	}
	if err := p.Certify(ctx, label); err != nil {
		return err
	}
	if err := all.Save(p); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string][]byte{"certificate": p.Certificate})
	}
	fmt.Fprintf(a.out, "This workstation shows %s the certificate %q from now on.\n", p.Name, label)
	return nil
}

// warnDays is how long before its certificate ends a workstation is told so.
const warnDays = 30

// warnCertificate tells who uses a box that what it is shown ends.
func (a *app) warnCertificate(p *remote.Profile) {
	ends := p.CertificateEnds()
	switch left := ends.Sub(a.now()); {
	case ends.IsZero() || left > warnDays*24*time.Hour:
	case left > 0:
		fmt.Fprintf(a.err, "warning: the client certificate for %s ends on %s\n\thint: have another made before: bulkhead --box %s certificate\n", p.Name, ends.Local().Format(time.DateOnly), p.Name)
	default:
		fmt.Fprintf(a.err, "warning: the client certificate for %s ended on %s, and is not shown\n\thint: bulkhead --box %s certificate makes another, if the box does not ask for one; if it does, set a new code at its console, and claim it again\n", p.Name, ends.Local().Format(time.DateOnly), p.Name)
	}
}
