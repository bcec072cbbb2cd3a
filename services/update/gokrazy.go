//go:build linux

package update

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/update/direct"
	"bulkhead/services/update/fat"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

// gokrazyFeatures is what gokrazy's own init says of itself. Tools pick by it how they
// write and compare.
const gokrazyFeatures = "partuuid,updatehash,gpt,"

// gokrazyUser is who sends images by that protocol.
const gokrazyUser = "gokrazy"

// Bounds of what comes by that protocol, in bytes.
const (
	maxBootImage = 192 << 20 // a FAT volume, mostly empty
	maxMBR       = 64 << 10  // 446 bytes, or a partition table
)

// gokrazyRoutes serves gokrazy's update protocol: whatever it is told to overwrite, what
// is overwritten is the slot that does not run, and a switch is a trial.
func (u *updater) gokrazyRoutes(mux *http.ServeMux) {
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /gokrazy/update/features":  gokrazyFeatureList,
		"PUT /gokrazy/update/root":      u.gokrazyPut(u.gokrazyRoot),
		"PUT /gokrazy/update/boot":      u.gokrazyPut(u.gokrazyBoot),
		"PUT /gokrazy/update/bootonly":  u.gokrazyPut(u.gokrazyBootOnly),
		"PUT /gokrazy/update/mbr":       u.gokrazyPut(discardMBR),
		"POST /gokrazy/update/switch":   u.gokrazySwitch,
		"POST /gokrazy/update/testboot": u.gokrazySwitch,
		"POST /gokrazy/reboot":          u.gokrazyReboot,
	} {
		mux.Handle(pattern, u.whereGokrazy(h))
	}
}

// whereGokrazy lets those through who know the password, while the configuration wants
// the protocol at all.
func (u *updater) whereGokrazy(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c svcconf.Update
		data, err := file.Read(u.dirs.Config(svcconf.Updated.Name), 1<<20)
		if err != nil || json.Unmarshal(data, &c) != nil || !c.Gokrazy {
			http.Error(w, "gokrazy's update protocol is off: see system.updates.gokrazy", http.StatusNotFound)
			return
		}
		user, password, _ := r.BasicAuth()
		if err := u.password.check(u.store.get().Password, user, password); err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="gokrazy"`)
			gokrazyFail(w, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// gokrazyFail answers in plain text, as gokrazy does.
func gokrazyFail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if r, ok := errors.AsType[*refusal](err); ok {
		status = r.status
	}
	http.Error(w, err.Error(), status)
}

func gokrazyFeatureList(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(strings.ToLower(r.Header.Get("Accept")+r.Header.Get("Content-Type")), "application/json") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, gokrazyFeatures)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		Features string    `json:"features"`
		EEPROM   *struct{} `json:"EEPROM"` // of a Raspberry Pi
	}{Features: gokrazyFeatures})
}

// gokrazyPut has f receive a body and answers with the hash of what came, by which the
// sender sees that it arrived.
func (u *updater) gokrazyPut(f func(context.Context, io.Reader) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var sum hash.Hash = sha256.New()
		if r.Header.Get("X-Gokrazy-Update-Hash") == "crc32" {
			sum = crc32.NewIEEE()
		}
		if err := f(r.Context(), io.TeeReader(unhurried(w, r), sum)); err != nil {
			u.log.Warn("gokrazy's update protocol", "path", r.URL.Path, "err", err)
			gokrazyFail(w, err)
			return
		}
		fmt.Fprintf(w, "%x", sum.Sum(nil))
	}
}

// gokrazyStaging returns the update that comes by this protocol, which the first part
// begins.
func (u *updater) gokrazyStaging() (*staging, error) {
	u.mu.Lock()
	s := u.staging
	u.mu.Unlock()
	if s != nil && s.gokrazy {
		return s, nil
	}
	s = &staging{gokrazy: true, author: gokrazyUser, manifest: manifest.Manifest{
		Arch: u.box.arch, Version: "gok-" + time.Now().UTC().Format("2006.01.02-150405"), Cmdline: "init=/gokrazy/init rootwait",
	}}
	return s, u.stage(s)
}

// gokrazyRoot receives a root file system.
func (u *updater) gokrazyRoot(_ context.Context, body io.Reader) error {
	s, err := u.gokrazyStaging()
	if err != nil {
		return err
	}
	return u.gokrazyRootFrom(s, body)
}

func (u *updater) gokrazyRootFrom(s *staging, body io.Reader) error {
	got, err := u.receive(s, rootPart, body, -1)
	if err != nil {
		return err
	}
	err = u.with(rootPart, func(t target) error {
		if err := manifest.CheckRoot(t, got.Size); err != nil {
			return refuse(http.StatusUnprocessableEntity, "%s", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return u.have(s, rootPart)
}

// gokrazyBoot receives a boot image and takes the kernel and its command line out of
// it. The image is larger than the memory, so it goes through a file on /perm.
func (u *updater) gokrazyBoot(_ context.Context, body io.Reader) error {
	s, err := u.gokrazyStaging()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(u.store.dir, "boot-*.img")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil { // the descriptor will do
		return err
	}
	size, err := spool(f, body)
	if err != nil {
		return err
	}
	vol, err := fat.Open(f, size)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "the boot image: %s", err)
	}
	kernel, n, err := vol.File(gaf.KernelPath)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "the boot image: %s", err)
	}
	m := s.manifest
	if cmdline, err := vol.ReadFile(gaf.CmdlinePath, 4<<10); err == nil {
		m.Cmdline = strings.Join(strings.Fields(string(cmdline)), " ")
	}
	if _, err := u.entry(m).Render(); err != nil {
		return refuse(http.StatusUnprocessableEntity, "the boot image: %s", err)
	}
	if _, err := u.receive(s, kernelPart, kernel, n); err != nil {
		return err
	}
	if err := u.checkKernel(); err != nil {
		return err
	}
	u.mu.Lock()
	s.manifest.Cmdline = m.Cmdline
	u.mu.Unlock()
	return u.have(s, kernelPart)
}

// spool copies what comes to f, leaving out blocks of zeros, and returns how much came.
func spool(f *os.File, body io.Reader) (int64, error) {
	buf := make([]byte, chunk)
	zeros := string(make([]byte, chunk))
	var done int64
	for {
		n, err := fill(body, buf)
		if string(buf[:n]) != zeros[:n] {
			if _, err := f.WriteAt(buf[:n], done); errors.Is(err, unix.ENOSPC) {
				return 0, refuse(http.StatusInsufficientStorage, "there is no space on /perm to unpack the boot image")
			} else if err != nil {
				return 0, err
			}
		}
		done += int64(n)
		switch {
		case done > maxBootImage:
			return 0, refuse(http.StatusRequestEntityTooLarge, "a boot image of more than %d bytes", maxBootImage)
		case errors.Is(err, io.EOF):
			return done, f.Truncate(done)
		case err != nil:
			return 0, fmt.Errorf("receive: %w", err)
		}
	}
}

// gokrazyBootOnly receives a boot image for the root that runs, a copy of which goes
// with it into the other slot, and arms that: the protocol asks for no switch then.
func (u *updater) gokrazyBootOnly(ctx context.Context, body io.Reader) error {
	if err := u.gokrazyBoot(ctx, body); err != nil {
		return err
	}
	s, err := u.gokrazyStaging()
	if err != nil {
		return err
	}
	running, err := direct.OpenRead(u.box.roots[u.box.slot])
	if err != nil {
		return err
	}
	defer running.Close()
	used, err := manifest.RootBytes(running)
	if err != nil {
		return err
	}
	if err := u.gokrazyRootFrom(s, io.NewSectionReader(running, 0, min(used, running.Size()))); err != nil {
		return err
	}
	return u.commit(ctx)
}

// discardMBR receives boot code for a BIOS, of which this disk has none.
func discardMBR(_ context.Context, body io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(body, maxMBR+1))
	if err == nil && n > maxMBR {
		return refuse(http.StatusRequestEntityTooLarge, "a boot record of more than %d bytes", maxMBR)
	}
	return err
}

// gokrazySwitch arms the slot.
func (u *updater) gokrazySwitch(w http.ResponseWriter, r *http.Request) {
	if err := u.commit(r.Context()); err != nil {
		gokrazyFail(w, err)
	}
}

// gokrazyReboot restarts the machine.
func (u *updater) gokrazyReboot(w http.ResponseWriter, _ *http.Request) {
	u.restartSoon()
	_, _ = io.WriteString(w, "Rebooting...\n")
}
