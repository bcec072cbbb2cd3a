package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// debianTools are the packages whose programs or data are in an image, and whose versions
// therefore decide the bytes of an image.
var debianTools = []string{"ca-certificates", "dosfstools", "e2fsprogs", "ieee-data", "mtools", "squashfs-tools", "systemd-boot-efi"}

// mke2fsConf is a file in the temporary folder: that of the host says what it likes.
const mke2fsConf = "mke2fs.conf"

// tool runs a program of Debian. Nothing of the caller's environment, place or clock
// gets into what it makes: the revision's time is the only one that it is told.
func (b *builder) tool(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	if errors.Is(cmd.Err, exec.ErrNotFound) { // an ordinary user's PATH lacks them
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if p := filepath.Join(dir, name); cmd.Err != nil && isFile(p) {
				cmd.Path, cmd.Err = p, nil
			}
		}
	}
	seconds := strconv.FormatInt(b.Revision.Time.Unix(), 10)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC",
		"E2FSPROGS_FAKE_TIME=" + seconds,
		"MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1", "MKE2FS_CONFIG=" + filepath.Join(b.work, mke2fsConf),
	}
	if name != "mksquashfs" { // which takes it for an upper limit, and has flags that do it better
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH="+seconds)
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("%w; run .ci/deps image", err)
		}
		return nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), errOut.Bytes())
	}
	return out.Bytes(), nil
}

func isFile(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.Mode().IsRegular()
}

// debianVersion returns the version of an installed package, or "unknown".
func debianVersion(ctx context.Context, pkg string) string {
	out, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat", "${Version}\n", pkg).Output()
	if err != nil {
		return "unknown" // not Debian
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}
