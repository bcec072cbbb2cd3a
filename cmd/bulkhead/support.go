package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock/sockhttp"
	updates "bulkhead/services/update/api"
)

// supportAnswers are what goes into a support bundle: who is asked, and what.
var supportAnswers = []struct{ daemon, path string }{
	{"netcfgd", "status"}, {"netcfgd", "zones"}, {"netcfgd", "rules"}, {"netcfgd", "devices"}, {"netcfgd", "leases"}, {"netcfgd", "drift"},
	{"netcfgd", "pending"}, {"netcfgd", "history"}, {"netcfgd", "isolated"}, {"netcfgd", "secrets"},
	{"updated", "update"}, {"updated", "keys"},
	{"flowd", "flows/status"}, {"flowd", "events"}, {"flowd", "devices/seen"},
}

func (a *app) supportCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "support [FILE]",
		Short: "Collect what somebody needs to know to help, in a zip file",
		Long: `Collect how the box is into FILE, for somebody who is to help: its state, zones, rules,
devices, leases, history (without the files), drift, events, and how updates and the
recording of flows go. It is JSON in a zip file: look at it before you send it.

The names and addresses of your devices are in it. Values of secrets, tokens, the
configuration file and flow records are not; "bulkhead history show N" prints the file.

` + exitHelp,
		Example: `  bulkhead --box gw support`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := fmt.Sprintf("bulkhead-support-%s.zip", time.Now().Format("2006-01-02-150405"))
			if len(args) > 0 {
				path = args[0]
			}
			if err := free(path, force); err != nil {
				return err
			}
			data, missing, err := a.support(cmd.Context())
			if err != nil {
				return err
			}
			if err := writeBackup(path, data, force); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": path, "bytes": len(data), "missing": missing})
			}
			fmt.Fprintf(a.out, "%s, %d bytes: look at it before you send it\n", path, len(data))
			for _, m := range missing {
				fmt.Fprintf(a.err, "warning: not in it: %s\n", m)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE")
	return cmd
}

// support asks for everything and returns the zip file, and what nobody answered.
func (a *app) support(ctx context.Context) (data []byte, missing []string, err error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, content []byte) {
		if w, failed := z.Create(name); failed != nil {
			err = errors.Join(err, failed)
		} else if _, failed := w.Write(content); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	answers := 0
	for _, q := range supportAnswers {
		answer, failed := a.raw(ctx, q.daemon, "/v1/"+q.path)
		if failed != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", q.path, failed))
			continue
		}
		answers++
		add(strings.ReplaceAll(q.path, "/", "-")+".json", answer)
	}
	if answers == 0 {
		return nil, nil, fmt.Errorf("nobody answers: %s", missing[0])
	}
	add("missing.txt", []byte(strings.Join(missing, "\n")))
	if info, ok := debug.ReadBuildInfo(); ok {
		add("cli.txt", []byte(info.String()))
	}
	err = errors.Join(err, z.Close())
	return b.Bytes(), missing, err
}

// raw asks a daemon, on this machine or on the box that --box names, and returns its
// answer indented.
func (a *app) raw(ctx context.Context, daemon, path string) ([]byte, error) {
	var answer json.RawMessage
	if a.box != "" {
		c, err := a.remote(ctx)
		if err != nil {
			return nil, err
		}
		if err := c.Call(ctx, "GET", path, nil, &answer); err != nil {
			return nil, err
		}
	} else {
		run := filepath.Dir(a.socket)
		socket := map[string]string{
			"netcfgd": a.socket, "updated": filepath.Join(run, updates.SocketFile), "flowd": filepath.Join(run, svcconf.Flowd.Name, svcconf.FlowsSocket),
		}[daemon]
		var err error
		if answer, err = fetch(ctx, socket, path); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err := json.Indent(&b, answer, "", "  ")
	return b.Bytes(), err
}

// fetch asks at a socket of this machine.
func fetch(ctx context.Context, socket, path string) ([]byte, error) {
	client := http.Client{Timeout: time.Minute, Transport: sockhttp.Transport(socket)}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://box"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDaemon))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(data[:min(len(data), 200)]))
	}
	return data, err
}
