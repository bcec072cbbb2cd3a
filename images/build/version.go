package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Revision says which state of the sources an image is built of.
type Revision struct {
	Git     string    // commit, with "+dirty" if files differ from it; "" outside of git
	Time    time.Time // of the commit: the only time in an image
	Version string    // for people: 2026.11.27-abcdef0
}

// Describe returns the revision of the sources in dir. SOURCE_DATE_EPOCH in the
// environment, seconds since 1970, takes the place of the commit's time, and is needed
// where there is no git.
func Describe(ctx context.Context, dir string) (Revision, error) {
	var r Revision
	short := "unknown"
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "log", "-1", "--format=%H %ct").Output()
	if err == nil {
		hash, seconds, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		if r.Time, err = parseEpoch(seconds); err != nil {
			return Revision{}, fmt.Errorf("time of commit %s: %w", hash, err)
		}
		r.Git, short = hash, hash[:min(7, len(hash))]
		changed, err := exec.CommandContext(ctx, "git", "-C", dir, "status", "--porcelain").Output()
		if err != nil {
			return Revision{}, fmt.Errorf("git status in %s: %w", dir, err)
		}
		if len(changed) > 0 {
			r.Git += "+dirty"
			short += "+dirty"
		}
	}
	if e := os.Getenv("SOURCE_DATE_EPOCH"); e != "" {
		if r.Time, err = parseEpoch(e); err != nil {
			return Revision{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
	}
	if r.Time.IsZero() {
		return Revision{}, errors.New("the sources are not in git: set SOURCE_DATE_EPOCH, seconds since 1970, to the time that the image is to carry")
	}
	r.Version = r.Time.Format("2006.01.02") + "-" + short
	return r, nil
}

func parseEpoch(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0).UTC(), err
}
