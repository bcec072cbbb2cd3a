package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/svcconf"
)

func (a *app) alertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Try out who is told of events, and see how sending goes",
		Long: `Try out who is told of events, and see how it goes to send events, flows and refusals to
where the configuration wants them.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command := func(use, short, long string, f func(context.Context) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long + "\n\n" + exitHelp, Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(cmd *cobra.Command, _ []string) error { return f(cmd.Context()) },
		}
	}
	cmd.AddCommand(
		command("test", "Send a test to everybody under alerts", "Send a test to everybody under alerts, whatever the hour, and say what each answered.", a.testAlerts),
		command("status", "Show how sending goes", "Show how it goes to send to everybody under alerts and export.", a.sending),
	)
	return cmd
}

// askExportd asks exportd, on this machine or on the box that --box names.
func (a *app) askExportd(ctx context.Context, method, path string, out any) error {
	return a.askDaemon(ctx, svcconf.Exportd.Name, svcconf.ExportSocket, method, path, out)
}

func (a *app) testAlerts(ctx context.Context) error {
	var list []svcconf.AlertAnswer
	err := a.askExportd(ctx, "POST", "/v1/alerts/test", &list)
	err = show(ctx, a, list, err, func(list []svcconf.AlertAnswer) error {
		if len(list) == 0 {
			_, err := fmt.Fprintln(a.out, "The configuration has nobody under alerts.")
			return err
		}
		t := table{header: []string{"ALERT", "TOLD", "ANSWER"}}
		for _, v := range list {
			told, answer := "yes", v.Answer
			if v.Error != "" {
				told, answer = "no", v.Error
			}
			t.rows = append(t.rows, []string{v.Name, told, answer})
		}
		return a.print(t)
	})
	if err == nil && slices.ContainsFunc(list, func(v svcconf.AlertAnswer) bool { return v.Error != "" }) {
		err = errShown
	}
	return err
}

func (a *app) sending(ctx context.Context) error {
	var s svcconf.ExportStatus
	err := a.askExportd(ctx, "GET", "/v1/export", &s)
	return show(ctx, a, s, err, func(s svcconf.ExportStatus) error {
		if len(s.Targets) == 0 {
			_, err := fmt.Fprintln(a.out, "Nothing is sent: the configuration has nothing under export or alerts.")
			return err
		}
		t := table{header: []string{"NAME", "KIND", "SENT", "WAITING", "LOST", "ERROR"}}
		for _, v := range s.Targets {
			kind := "export"
			if v.Alert {
				kind = "alert"
			}
			t.rows = append(t.rows, []string{v.Name, kind, fmt.Sprint(v.Sent), fmt.Sprint(v.Queued), fmt.Sprint(v.Lost), v.Error})
		}
		return a.print(t)
	})
}
