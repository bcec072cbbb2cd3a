package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Write images to disks, and sign them",
		Long:  "Work with images of the box's system.\n\n" + exitHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageFlashCommand(), a.imageSignCommand())
	return cmd
}

func (a *app) imageSignCommand() *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use:   "sign FILE.gaf",
		Short: "Sign an image, so that boxes that trust your key take it",
		Long: `Sign an image with your key, which is made if you have none. The manifest and the
signature are added to FILE, which may be ours or come from gok. The version is what
FILE says, or else made of its date and its bill of materials.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error { return a.sign(cmd.Context(), args[0], version) },
	}
	cmd.Flags().StringVar(&version, "version", "", "`version` of the image, instead of the one that FILE says")
	return cmd
}

// completeImages offers images where one is expected.
func completeImages(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"gaf"}, cobra.ShellCompDirectiveFilterFileExt
}

// signed is what image sign prints as JSON.
type signed struct {
	Key string `json:"key"`
	manifest.Manifest
}

func (a *app) sign(_ context.Context, path, version string) error {
	archive, err := gaf.Open(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	m, err := archive.Describe(version)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	data, err := m.Bytes()
	if err != nil {
		return err
	}
	k, _, err := signingKey()
	if err != nil {
		return err
	}
	if err := archive.Sign(data, []manifest.Signature{k.SignImage(data)}); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if a.json {
		return a.printJSON(signed{k.Public().ID(), m})
	}
	fmt.Fprintf(a.out, "%s is signed with key %s: version %s for %s, kernel %s (%s), root %s\n",
		path, k.Public().ID(), m.Version, m.Arch, orDash(m.Kernel.Version), megabytes(m.Kernel.Size), megabytes(m.Root.Size))
	return nil
}
