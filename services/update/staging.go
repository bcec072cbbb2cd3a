//go:build linux

package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/services/update/api"
	"bulkhead/services/update/boot"
	"bulkhead/services/update/direct"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/manifest"
)

// The parts of an image.
const (
	kernelPart = "kernel"
	rootPart   = "root"
)

// abandoned is after how long without a byte somebody else may begin an update.
const abandoned = time.Minute

// chunk is how much of an image is in memory at a time, in bytes.
const chunk = 256 << 10

// staging is an update that is being received into the slot that does not run, which
// is disabled all the while.
type staging struct {
	manifest manifest.Manifest
	author   string
	gokrazy  bool // by gokrazy's protocol: nothing is announced or signed
	started  time.Time
	touched  time.Time
	busy     bool // something is being written
	part     string
	done, of int64
	have     map[string]bool // parts that are there and verified
}

func (s *staging) ready() bool { return s.have[kernelPart] && s.have[rootPart] && !s.busy }

func (s *staging) status() *api.Staging {
	return &api.Staging{Version: s.manifest.Version, Author: s.author, Started: s.started, Part: s.part, Done: s.done, Of: s.of, Ready: s.ready()}
}

// A refusal says no to who asked, with the HTTP status that goes with it.
type refusal struct {
	status int
	msg    string
}

func (r *refusal) Error() string { return r.msg }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// begin checks what an update announces and makes room for it.
func (u *updater) begin(b api.Begin, author string) error {
	st := u.store.get()
	if _, err := manifest.VerifyImage(b.Manifest, b.Signatures, st.trusted()); err != nil {
		return refuse(http.StatusForbidden, "%s", err)
	}
	m, err := manifest.Parse(b.Manifest)
	if err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	if m.Arch != u.box.arch {
		return refuse(http.StatusUnprocessableEntity, "the image is for %s, and this box is %s: build it with ARCH=%s", m.Arch, u.box.arch, u.box.arch)
	}
	if m.Built.Before(st.Newest) && !b.AllowDowngrade {
		return refuse(http.StatusConflict, "the image is older than one that ran here: it was built at %s, that one at %s; to go back all the same: --allow-downgrade",
			m.Built.Format(time.RFC3339), st.Newest.Format(time.RFC3339))
	}
	if err := u.fits(m); err != nil {
		return err
	}
	return u.stage(&staging{manifest: m, author: author})
}

// fits says whether the slot has room for an image, and its entry for the command line.
func (u *updater) fits(m manifest.Manifest) error {
	for part, size := range map[string]int64{kernelPart: m.Kernel.Size, rootPart: m.Root.Size} {
		err := u.with(part, func(t target) error {
			if size > t.Size() {
				return refuse(http.StatusRequestEntityTooLarge, "the image's %s has %d bytes, and the slot takes %d: leave something out of the image", part, size, t.Size())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if _, err := u.entry(m).Render(); err != nil {
		return refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return nil
}

// stage makes s the update that is being received, and disables the slot for it.
func (u *updater) stage(s *staging) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if u.trial {
		return refuse(http.StatusConflict, "version %s is on trial here: wait until it is kept or undone", u.box.info.Version)
	}
	if o := u.staging; o != nil && (o.busy || now.Sub(o.touched) < abandoned) {
		return refuse(http.StatusConflict, "an update to %s by %s is under way: wait until it is done, or a minute after it stopped", o.manifest.Version, orSomebody(o.author))
	}
	u.staging = nil
	if err := u.esp(func(e *boot.ESP) error { return e.Disable(u.other()) }); err != nil {
		return err
	}
	s.started, s.touched, s.have = now, now, map[string]bool{}
	u.staging = s
	u.log.Info("an update begins", "version", s.manifest.Version, "by", s.author, "slot", u.other().String())
	return nil
}

func orSomebody(author string) string {
	if author == "" {
		return "somebody"
	}
	return author
}

// target is where a part of an image goes.
type target interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Size() int64
}

// with opens the place of a part in the slot that does not run, for as long as f runs.
func (u *updater) with(part string, f func(target) error) error {
	if part == kernelPart {
		return u.esp(func(e *boot.ESP) error {
			k, err := e.Kernel(u.other())
			if err != nil {
				return err
			}
			return f(k)
		})
	}
	d, err := direct.OpenUnused(u.box.roots[u.other()])
	if err != nil {
		return fmt.Errorf("open the root partition of slot %s: %w", u.other(), err)
	}
	defer d.Close()
	return f(d)
}

// put receives a part of the announced image. length is what the request says of the
// body's, or negative.
func (u *updater) put(part string, body io.Reader, length int64) error {
	u.mu.Lock()
	s := u.staging
	if s == nil || s.gokrazy {
		u.mu.Unlock()
		return refuse(http.StatusConflict, "no update was begun: it may have been taken over, or the box restarted; push again")
	}
	want := map[string]manifest.Part{kernelPart: s.manifest.Kernel, rootPart: s.manifest.Root}[part]
	u.mu.Unlock()
	if length >= 0 && length != want.Size {
		return mismatch(part, length, want.Size)
	}
	got, err := u.receive(s, part, body, want.Size)
	if err != nil {
		return err
	}
	if got.SHA256 != want.SHA256 {
		return refuse(http.StatusUnprocessableEntity, "the %s is not what was signed: it was changed, or damaged on its way; push again", part)
	}
	if part == kernelPart {
		if err := u.checkKernel(); err != nil {
			return err
		}
	}
	return u.have(s, part)
}

// have notes that a part is complete.
func (u *updater) have(s *staging, part string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.staging != s {
		return refuse(http.StatusConflict, "the update was dropped meanwhile")
	}
	s.have[part] = true
	return nil
}

func mismatch(part string, got, want int64) error {
	how := "cut short"
	if got > want {
		how = "longer than announced"
	}
	return refuse(http.StatusUnprocessableEntity, "the %s is %s: %d bytes of %d; push again", part, how, got, want)
}

// checkKernel looks at the kernel that was written.
func (u *updater) checkKernel() error {
	return u.with(kernelPart, func(t target) error {
		arch, err := manifest.KernelArch(t)
		if err != nil {
			return refuse(http.StatusUnprocessableEntity, "the image's kernel: %s", err)
		}
		if arch != u.box.arch {
			return refuse(http.StatusUnprocessableEntity, "the image's kernel is for %s, and this box is %s", arch, u.box.arch)
		}
		return nil
	})
}

// receive writes a part and verifies it. The part has size bytes, or, if size is
// negative, as many as come and fit. It returns what it got.
func (u *updater) receive(s *staging, part string, body io.Reader, size int64) (manifest.Part, error) {
	u.mu.Lock()
	switch {
	case u.staging != s:
		u.mu.Unlock()
		return manifest.Part{}, refuse(http.StatusConflict, "the update was dropped meanwhile")
	case s.busy:
		u.mu.Unlock()
		return manifest.Part{}, refuse(http.StatusConflict, "the %s is being received already", s.part)
	}
	s.busy, s.part, s.done, s.of = true, part, 0, max(size, 0)
	s.have[part] = false
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		s.busy, s.touched = false, time.Now()
	}()
	var got manifest.Part
	err := u.with(part, func(t target) error {
		limit := size
		if limit < 0 {
			limit = t.Size()
		}
		var err error
		got, err = write(t, body, limit, func(done int64) {
			u.mu.Lock()
			defer u.mu.Unlock()
			s.done, s.touched = done, time.Now()
		})
		if err == nil && size >= 0 && got.Size != size {
			return mismatch(part, got.Size, size)
		}
		if err != nil || part != kernelPart {
			return err
		}
		return wipe(t, got.Size)
	})
	return got, err
}

// errTooLong says that there was more than there ought to be.
var errTooLong = errors.New("longer than announced")

// write writes what comes to t, at most limit bytes, waits until it is on the disk, and
// reads it back from there: t is past the page cache, so that reading it is a proof.
func write(t target, body io.Reader, limit int64, progress func(done int64)) (manifest.Part, error) {
	sum := sha256.New()
	buf := make([]byte, chunk)
	var done int64
	for {
		n, err := fill(body, buf)
		if done+int64(n) > limit {
			return manifest.Part{}, refuse(http.StatusRequestEntityTooLarge, "%s, or than the slot takes: %d bytes", errTooLong, limit)
		}
		if n > 0 {
			sum.Write(buf[:n])
			if _, err := t.WriteAt(buf[:n], done); err != nil {
				return manifest.Part{}, fmt.Errorf("write to the slot: %w", err)
			}
			done += int64(n)
			progress(done)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return manifest.Part{}, refuse(http.StatusBadRequest, "the connection broke after %d bytes: %s; push again", done, err)
		}
	}
	if err := t.Sync(); err != nil {
		return manifest.Part{}, fmt.Errorf("write to the slot: %w", err)
	}
	back := sha256.New()
	if _, err := io.CopyBuffer(back, io.NewSectionReader(t, 0, done), buf); err != nil {
		return manifest.Part{}, fmt.Errorf("read back from the slot: %w", err)
	}
	p := manifest.Part{Size: done, SHA256: hex.EncodeToString(sum.Sum(nil))}
	if hex.EncodeToString(back.Sum(nil)) != p.SHA256 {
		return p, errors.New("the disk does not hold what was written: it may be failing")
	}
	return p, nil
}

// fill reads until buf is full. It returns io.EOF only where the sender meant to end,
// which io.ReadFull does not tell from a connection that broke.
func fill(r io.Reader, buf []byte) (int, error) {
	done := 0
	for done < len(buf) {
		n, err := r.Read(buf[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// wipe writes zeros from an offset to the end.
func wipe(t target, from int64) error {
	zeros := make([]byte, chunk)
	for at := from; at < t.Size(); {
		n := min(int64(len(zeros)), t.Size()-at)
		if _, err := t.WriteAt(zeros[:n], at); err != nil {
			return fmt.Errorf("write to the slot: %w", err)
		}
		at += n
	}
	return t.Sync()
}

// forget drops the update that is being received. The slot stays disabled.
func (u *updater) forget() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.staging != nil && u.staging.busy {
		return refuse(http.StatusConflict, "the %s is being received: it ends with its connection", u.staging.part)
	}
	u.staging = nil
	return nil
}

// commit arms the slot that holds a complete update.
func (u *updater) commit(ctx context.Context) error {
	s, err := u.claim()
	if err != nil {
		return err
	}
	err = u.arm(ctx, s.manifest, s.author)
	u.mu.Lock()
	defer u.mu.Unlock()
	s.busy = false
	if err == nil {
		u.staging = nil
	}
	return err
}

// claim takes the complete update, so that nothing happens to it meanwhile.
func (u *updater) claim() (*staging, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.staging == nil:
		return nil, refuse(http.StatusConflict, "no update was begun: push again")
	case !u.staging.ready():
		return nil, refuse(http.StatusConflict, "the update is not complete: it needs kernel and root; push again")
	}
	u.staging.busy = true
	return u.staging, nil
}

// arm has the next boot try the other slot, whose kernel and root are complete. Before
// that it writes down how the box is.
func (u *updater) arm(ctx context.Context, m manifest.Manifest, author string) error {
	p := &pending{
		Slot: u.other(), Version: m.Version, Built: m.Built, Author: author, Time: time.Now().UTC(), BootID: u.box.bootID,
		Before: u.look.Before(ctx),
	}
	if err := u.store.update(func(s *state) error { s.Pending = p; return nil }); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return refuse(http.StatusInsufficientStorage, "there is no space on /perm to note how the box is before the update: remove old flow records or backups there")
		}
		return err
	}
	err := u.esp(func(e *boot.ESP) error {
		if _, err := e.SetEntry(u.entry(m)); err != nil {
			return err
		}
		return e.Arm(u.other())
	})
	if err != nil {
		return errors.Join(err, u.store.update(func(s *state) error { s.Pending = nil; return nil }))
	}
	u.log.Info("the next boot tries an update", "version", m.Version, "by", author, "slot", u.other().String())
	return nil
}

// entry returns the loader entry of an image in the other slot: with the command line
// that the image wants, but the root that is here, and restarting after a panic.
func (u *updater) entry(m manifest.Manifest) boot.Entry {
	root := fmt.Sprintf("root=PARTUUID=%s/PARTNROFF=%d", u.box.disk, u.other().Partition()-disk.ESP)
	words := []string{root}
	for _, w := range strings.Fields(m.Cmdline) {
		if key, _, _ := strings.Cut(w, "="); key != "root" && key != "panic" && key != "oops" {
			words = append(words, w)
		}
	}
	e := boot.Entry{Slot: u.other(), Version: m.Version, Options: strings.Join(append(words, "panic=10", "oops=panic"), " ")}
	if !m.Built.IsZero() {
		e.Built = m.Built.UTC().Format(time.RFC3339)
	}
	return e
}

// bootOther has the next boot try the system that does not run.
func (u *updater) bootOther(ctx context.Context, author string) error {
	u.mu.Lock()
	busy := u.trial || u.staging != nil && u.staging.busy
	u.mu.Unlock()
	if busy {
		return refuse(http.StatusConflict, "an update is under way, or on trial: wait until it is done")
	}
	var p *pending
	err := u.esp(func(e *boot.ESP) error {
		st, err := e.Status(u.other())
		if err != nil {
			return err
		}
		if st.State == boot.Disabled {
			return refuse(http.StatusConflict, "there is no other system: slot %s is empty, or holds half an update", u.other())
		}
		p = &pending{Slot: u.other(), Version: st.Entry.Version, Author: author, Time: time.Now().UTC(), BootID: u.box.bootID}
		return nil
	})
	if err != nil {
		return err
	}
	return u.rearm(ctx, p)
}

// rearm arms a slot as it is.
func (u *updater) rearm(ctx context.Context, p *pending) error {
	p.Before = u.look.Before(ctx)
	if err := u.store.update(func(s *state) error { s.Pending = p; return nil }); err != nil {
		// The console asks for this when things are bad: go on without.
		u.log.Warn("cannot note how the box is before it restarts", "err", err)
	}
	return u.esp(func(e *boot.ESP) error {
		st, err := e.Status(p.Slot)
		if err != nil {
			return err
		}
		if err := e.Disable(p.Slot); err != nil {
			return err
		}
		if _, err := e.SetEntry(st.Entry); err != nil {
			return err
		}
		return e.Arm(p.Slot)
	})
}
