package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/images/flash"
)

func (a *app) imageFlashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "flash [FILE] DISK",
		Short: "Write an image to a disk, and read it back",
		Long: `Write FILE, which "make image" makes, to a whole disk of this machine: a USB stick, a
card, or the disk of a box in an adapter. Without FILE it is the image in the folder
out for this machine's architecture. All that is on the disk is lost, also what a box
kept on it.

Disks that are in use, that this machine runs from, that are too small or that are
partitions are refused. You are shown what the disk is and have to type its name.
Takes root.

` + exitHelp,
		Example: `  sudo bulkhead image flash /dev/sdb
  sudo bulkhead image flash out/bulkhead-arm64.img /dev/mmcblk0`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"img"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			file := filepath.Join("out", "bulkhead-"+runtime.GOARCH+".img")
			if len(args) == 2 {
				file = args[0]
			}
			image, err := flash.Open(file)
			if err != nil {
				return err
			}
			defer image.Close()
			target, err := flash.Look(args[len(args)-1], image.Bytes)
			if err != nil {
				return err
			}
			return a.flash(ctx, image, target)
		},
	}
}

// flash asks whether the disk is the right one, and writes the image to it.
func (a *app) flash(ctx context.Context, image *flash.Image, t flash.Target) error {
	fmt.Fprintln(a.err, describe(t))
	fmt.Fprintf(a.err, "All that is on it will be lost. To go on, type its name, %s: ", t.Name)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if line == "" {
		fmt.Fprintln(a.err)
	}
	if answer := strings.TrimSpace(line); answer != t.Name && answer != t.Path {
		fmt.Fprintln(a.err, "That is not its name. Nothing was written.")
		return errShown
	}
	if err := a.progress(ctx, "writing", image, t, image.Write); err != nil {
		return fmt.Errorf("write the image to %s, which does not start now: %w", t.Path, err)
	}
	if err := a.progress(ctx, "reading back", image, t, image.Verify); err != nil {
		return fmt.Errorf("check what was written to %s: %w", t.Path, err)
	}
	return a.say("the image is on " + t.Path + ": start the box from it, and read the claim code on its console")
}

// progress runs one half of the work under a bar.
func (a *app) progress(ctx context.Context, what string, image *flash.Image, t flash.Target, do func(context.Context, flash.Target, func(int64)) error) error {
	b := a.newBar(what, image.Bytes)
	var last int64
	err := do(ctx, t, func(n int64) { last = n; b.set(n) })
	b.end(last)
	return err
}

// describe says which disk it is, so that it can be told from others.
func describe(t flash.Target) string {
	parts := []string{fmt.Sprintf("%.1f GB", float64(t.Bytes)/1e9)}
	if t.Model != "" {
		parts = append([]string{t.Model}, parts...)
	}
	if t.Serial != "" {
		parts = append(parts, "serial number "+t.Serial)
	}
	if !t.Removable {
		parts = append(parts, "built in, or behind an adapter")
	}
	return t.Path + ": " + strings.Join(parts, ", ")
}
