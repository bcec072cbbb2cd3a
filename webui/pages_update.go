//go:build linux

package webui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	auth "bulkhead/services/auth/api"
	update "bulkhead/services/update/api"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

// handOver bounds how long it may take to hand an image on to updated.
const handOver = 10 * time.Minute

// upload is the image that was last sent by a browser. There is one at a time.
type upload struct {
	mu   sync.Mutex
	busy bool
	err  string // why it did not become an update; "": it did, or there was none
}

func (u *upload) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy {
		return false
	}
	u.busy, u.err = true, ""
	return true
}

func (u *upload) end(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy = false; err != nil {
		u.err = err.Error()
	}
}

func (u *upload) look() (busy bool, err string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.busy, u.err
}

// updates asks updated on the visitor's behalf.
func (v *visit) updates() *update.Client {
	return update.NewClientAs(v.s.o.Updated, v.secret, addrOf(v.RemoteAddr))
}

// updateError makes what updated answers an error of a page.
func updateError(err error) error {
	if err == nil {
		return nil
	}
	if no, ok := errors.AsType[*update.Refused](err); ok {
		return &auth.Refusal{Status: no.Status, Why: no.Why}
	}
	return awayError(noUpdated)
}

// updateView is how the two systems of the box are, and the form that brings another.
type updateView struct {
	Tabs      []navItem
	Status    *update.Status // nil: it is not known
	Away      string         // why
	Built     when
	Other     string // how the other system is, in words
	Staging   *update.Staging
	Percent   int64
	Busy      bool // an image is being handed on
	Failed    string
	Last      *lastUpdate
	Downgrade bool // as it was ticked
	Error     string
}

type lastUpdate struct {
	Good, Bad       bool
	Text, Why       string
	Version, Author string
	Time            when
}

func (u updateView) refresh() int {
	if u.Busy || u.Status != nil && (u.Status.Trial || u.Staging != nil && !u.Staging.Ready) {
		return 3
	}
	return 0
}

func (u updateView) reload() bool { return true }

// otherTexts are the states of the system that does not run.
var otherTexts = map[string]string{
	"good":     "it is complete, and starts if this one does not",
	"disabled": "nothing complete is there",
	"armed":    "it is tried at the next start",
	"failed":   "it was tried, and did not prove itself",
}

// outcomeTexts are how updates end.
var outcomeTexts = map[string]string{
	update.Kept:      "It was tried, everything worked as before, and it was kept.",
	update.Undone:    "It was tried and undone: the system before it is back.",
	update.Abandoned: "It was never tried.",
}

func (v *visit) updateView() updateView {
	view := updateView{Tabs: v.tabs()}
	view.Busy, view.Failed = v.s.upload.look()
	st, err := v.updates().Status(v.Context())
	if err != nil {
		view.Away = updateError(err).Error()
		return view
	}
	view.Status, view.Built, view.Other, view.Staging = &st, v.when(st.Built), or(otherTexts[st.Other.State], st.Other.State), st.Staging
	if s := st.Staging; s != nil && s.Of > 0 {
		view.Percent = min(100*s.Done/s.Of, 100)
	}
	if l := st.Last; l != nil {
		view.Last = &lastUpdate{l.Outcome == update.Kept, l.Outcome == update.Undone, or(outcomeTexts[l.Outcome], l.Outcome), l.Why, l.Version, l.Author, v.when(l.Time)}
	}
	return view
}

func (v *visit) updatePage() error { return v.show("update", v.updateView()) }

// takeImage receives an image. It goes through a file, for what is signed stands at the
// end of it, and on to updated, which writes it beside the system that runs.
func (v *visit) takeImage() error {
	downgrade, err := v.receiveImage()
	if err == nil {
		return v.see("/system/update")
	}
	// The time of a page was over before a large image had come: what follows asks others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.Context()), v.s.o.pageTime())
	defer cancel()
	v.Request = v.WithContext(ctx)
	return v.again(err, "update", "Updates", func(why string) any {
		view := v.updateView()
		view.Downgrade, view.Error = downgrade, why
		return view
	})
}

// refuseImage says why an image is not taken.
func refuseImage(status int, format string, args ...any) error {
	return &auth.Refusal{Status: status, Why: fmt.Sprintf(format, args...)}
}

func (v *visit) receiveImage() (downgrade bool, err error) {
	if !v.s.upload.begin() {
		return false, refuseImage(http.StatusConflict, "another image is being received: wait until that is done")
	}
	going := false
	defer func() {
		if !going {
			v.s.upload.end(nil)
		}
	}()
	conn := http.NewResponseController(v.w)
	v.Body = &slowBody{http.MaxBytesReader(v.w, v.Body, maxUpload), conn, uploadIdle}
	form, err := v.MultipartReader()
	if err != nil {
		return false, fmt.Errorf("%w: %w", errForm, err)
	}
	var archive *gaf.Archive
	for archive == nil {
		part, err := form.NextPart()
		if err != nil {
			return downgrade, readError(err)
		}
		switch part.FormName() {
		case "downgrade":
			downgrade = true
		case "image":
			if archive, err = v.spool(part); err != nil {
				return downgrade, err
			}
		}
	}
	defer func() {
		if !going {
			archive.Close()
		}
	}()
	if archive.Manifest == nil {
		return downgrade, refuseImage(http.StatusUnprocessableEntity, "the image is not signed: sign it first, with bulkhead image sign FILE.gaf")
	}
	if _, err := manifest.Parse(archive.Manifest); err != nil {
		return downgrade, refuseImage(http.StatusUnprocessableEntity, "%s", err)
	}
	// The upload may have taken longer than a page may.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.Context()), handOver)
	c := v.updates()
	if err := c.Begin(ctx, update.Begin{Manifest: archive.Manifest, Signatures: archive.Signatures, AllowDowngrade: downgrade}); err != nil {
		cancel()
		return downgrade, updateError(err)
	}
	going = true
	go func() {
		defer cancel()
		defer archive.Close()
		err := hand(ctx, c, archive)
		if err != nil {
			v.s.log.Warn("hand an image on", "err", err)
		}
		v.s.upload.end(err)
	}()
	return downgrade, nil
}

// readError is why a form with an image could not be read.
func readError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return refuseImage(http.StatusRequestEntityTooLarge, "the image is larger than %s", bytesText(maxUpload))
	}
	if errors.Is(err, io.EOF) {
		return refuseImage(http.StatusUnprocessableEntity, "choose a file")
	}
	return refuseImage(http.StatusBadRequest, "the image did not arrive: %s", err)
}

// spool writes an image to a file that has no name, and opens it.
func (v *visit) spool(part *multipart.Part) (*gaf.Archive, error) {
	f, err := os.CreateTemp(v.s.o.State, "image-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil { // the descriptor will do
		f.Close()
		return nil, err
	}
	n, err := io.Copy(f, part)
	switch {
	case errors.Is(err, unix.ENOSPC):
		err = refuseImage(http.StatusInsufficientStorage, "there is no space on /perm for the image: remove old flow records or backups there")
	case err != nil:
		err = readError(err)
	case n == 0:
		err = refuseImage(http.StatusUnprocessableEntity, "choose a file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	archive, err := gaf.Read(f)
	if err != nil {
		f.Close()
		return nil, refuseImage(http.StatusUnprocessableEntity, "that is no image: %s", err)
	}
	return archive, nil
}

// hand sends the parts of an image to updated.
func hand(ctx context.Context, c *update.Client, archive *gaf.Archive) error {
	for _, part := range []struct {
		name string
		open func() (io.Reader, int64, error)
	}{{"kernel", archive.Kernel}, {"root", archive.Root}} {
		r, size, err := part.open()
		if err != nil {
			return err
		}
		if err := c.Put(ctx, part.name, r, size, nil); err != nil {
			return fmt.Errorf("write the %s: %w", part.name, err)
		}
	}
	return nil
}

func (v *visit) startUpdate() error {
	if err := v.updates().Commit(v.Context()); err != nil {
		return updateError(err)
	}
	return v.show("leaving", leavingView{"The box restarts into the update", "/system/update", true})
}

func (v *visit) forgetUpdate() error {
	if err := v.updates().Forget(v.Context()); err != nil {
		return updateError(err)
	}
	return v.seeDone("/system/update", "forgotten")
}

// powerView asks whether the box is to go down.
type powerView struct {
	Tabs    []navItem
	Pending bool // a change would be undone by that
}

func (v *visit) powerPage() error {
	st := v.look()
	return v.show("power", powerView{v.tabs(), st != nil && st.Pending != nil})
}

// leavingView is the last page before the box goes down.
type leavingView struct {
	Head   string
	Back   string // where to look then; "": it does not come back by itself
	Update bool
}

func (l leavingView) title() string { return l.Head }

func (v *visit) restart() error {
	if err := v.updates().Restart(v.Context()); err != nil {
		return updateError(err)
	}
	return v.show("leaving", leavingView{"The box restarts", "/system", false})
}

func (v *visit) powerOff() error {
	if err := v.updates().PowerOff(v.Context()); err != nil {
		return updateError(err)
	}
	return v.show("leaving", leavingView{"The box switches itself off", "", false})
}
