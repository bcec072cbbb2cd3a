package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/services/file"
	"bulkhead/webui/remote"
)

func (a *app) backupCommand() *cobra.Command {
	var to []string
	var force bool
	cmd := &cobra.Command{
		Use:   "backup [FILE]",
		Short: "Write everything that makes the box the one that it is into a file",
		Long: `Write everything that makes the box the one that it is into FILE: the configuration
and its history, the secrets, the leases, the addresses given to devices, who is
isolated, and the public keys whose images the box runs. It is one file, encrypted with
age to the keys of the recipients of the secrets: see "bulkhead secret recipients".
Nobody else can read it, the box included.

Without FILE, it is named after the box and the day. A FILE of "-" is standard output.
What is there is not replaced without --force. Who may use the API and the UI is not in
it, nor are flow records.

"bulkhead restore" puts it back, on the same or on other hardware.

` + exitHelp,
		Example: `  bulkhead --box gw backup
  bulkhead --box gw backup - | ssh nas 'cat > gw.backup.age'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.backup(cmd.Context(), args, to, force)
		},
	}
	cmd.Flags().StringArrayVar(&to, "recipient", nil, "another public `key` that can read this backup: age1..., or the line of an SSH key")
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE")
	return cmd
}

// written is what backup prints as JSON.
type written struct {
	File    string    `json:"file"`
	Box     string    `json:"box"`
	Time    time.Time `json:"time"`
	Bytes   int       `json:"bytes"`
	To      []string  `json:"to"`
	LeftOut []string  `json:"leftOut,omitempty"`
}

func (a *app) backup(ctx context.Context, args, to []string, force bool) error {
	path := ""
	if len(args) > 0 {
		path = args[0]
	}
	switch f, ok := a.out.(*os.File); {
	case path == "-" && a.json:
		return fmt.Errorf("%w: the backup and JSON cannot both be standard output", errUsage)
	case path == "-" && ok && terminal(f):
		return fmt.Errorf("%w: a backup is nothing for a terminal: name a file", errUsage)
	}
	if err := free(path, force); err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	b, err := c.Backup(ctx, api.NewBackup{Recipients: to, Author: author()})
	if err != nil {
		return err
	}
	if path == "-" {
		if _, err := a.out.Write(b.Data); err != nil {
			return err
		}
		return a.toldLeftOut(b)
	}
	if path == "" {
		path = backupName(b, a.location)
	}
	if err := writeBackup(path, b.Data, force); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(written{path, b.Box, b.Time, len(b.Data), b.To, b.LeftOut})
	}
	fmt.Fprintf(a.out, "%s is backed up in %s, %d bytes\nIt opens with the keys of %s, and with no other. They open the secrets in it as well.\n", b.Box, path, len(b.Data), strings.Join(b.To, ", "))
	return a.toldLeftOut(b)
}

// toldLeftOut warns of what is not in a backup and should be.
func (a *app) toldLeftOut(b *api.Backup) error {
	for _, what := range b.LeftOut {
		fmt.Fprintf(a.err, "warning: not in the backup: %s\n", what)
	}
	return nil
}

// backupName is what a backup is called unless somebody says otherwise.
func backupName(b *api.Backup, loc *time.Location) string {
	box := b.Box
	if remote.CheckName(box) != nil { // the box says what it is called
		box = "bulkhead"
	}
	return fmt.Sprintf("%s-%s.backup.age", box, b.Time.In(loc).Format(time.DateOnly))
}

// free reports whether a file may be written.
func free(path string, force bool) error {
	if path == "" || path == "-" || force {
		return nil
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return taken(path)
	}
	return nil
}

func taken(path string) error {
	return fmt.Errorf("%w: %s is there already; name another file, or replace it with --force", errUsage, path)
}

// writeBackup writes a file that only its owner can read, whole or not at all.
func writeBackup(path string, data []byte, force bool) error {
	dir := filepath.Dir(path)
	if !force {
		// The file gets its name only if nobody has it by then.
		whole, err := os.MkdirTemp(dir, ".backup-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(whole)
		tmp := filepath.Join(whole, "whole")
		if err := file.Replace(tmp, data, 0o600, -1); err != nil {
			return fmt.Errorf("write %s: %w", path, errors.Unwrap(err))
		}
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) { // a file system that cannot tell, such as a stick's
			if err = free(path, false); err == nil {
				err = os.Rename(tmp, path)
			}
		}
		switch {
		case errors.Is(err, unix.EEXIST):
			return taken(path)
		case err != nil:
			return fmt.Errorf("write %s: %w", path, err)
		}
		return file.SyncDir(dir)
	}
	if err := file.Replace(path, data, 0o600, -1); err != nil {
		return err
	}
	return file.SyncDir(dir)
}
