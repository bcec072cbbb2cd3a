//go:build linux

package reconcile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/strictjson"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/privdrop"
)

// maxPushStatus is what is read of what pushd says about itself, in bytes.
const maxPushStatus = 4 << 10

// export is the git repository that pushd takes the history from.
type export struct {
	number int          // the newest change in there
	head   string       // its commit
	told   svcconf.Push // what is confirmed, and pushd was told, but for the key
}

// prepareExport brings the repository up to the history, and the configuration of
// pushd to it. A change that is on trial is not history yet, nor may where it wants
// that to go be believed: pushd hears nothing new then.
func (r *Reconciler) prepareExport(out *outcome) {
	push := &out.result.Push
	if r.trial != nil {
		same := r.exported.told
		if same.Repository, same.Head = "", ""; *push != same {
			*push = svcconf.Push{}
			return
		}
		*push = r.exported.told
		return
	}
	r.exported.told = svcconf.Push{}
	if push.Secret == "" {
		return
	}
	if r.o.Volatile || r.o.State == "" {
		*push = svcconf.Push{}
		return
	}
	dir, err := privdrop.Dir(r.o.State, svcconf.Pushd.Name, 0, svcconf.Pushd.ID)
	if err == nil {
		push.Repository = filepath.Join(dir, "history.git")
		err = r.export(push.Repository)
	}
	if err != nil {
		out.trouble("write the history for pushd: %w", err)
		*push = svcconf.Push{}
		return
	}
	push.Head = r.exported.head
	r.exported.told = *push
}

// export adds to the repository what is new in the history.
func (r *Reconciler) export(dir string) error {
	newest := r.o.Store.NewestNumber()
	if newest == r.exported.number {
		return nil
	}
	repo, err := gitrepo.Open(dir)
	if err != nil {
		return err
	}
	defer repo.Close()
	var numbers []int // of what is new, newest first; the files of all would take much memory
	for e := range r.o.Store.Entries() {
		if repo.Has(e.Commit().ID()) {
			if len(numbers) == 0 {
				numbers = append(numbers, e.Number) // for the branch, should that have been lost
			}
			break
		}
		numbers = append(numbers, e.Number)
	}
	_, err = repo.Add(func(yield func(gitrepo.Commit, error) bool) {
		for _, n := range slices.Backward(numbers) {
			e, err := r.o.Store.Entry(n)
			if !yield(e.Commit(), err) || err != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	head, err := repo.Head()
	if err != nil {
		return err
	}
	r.exported.number, r.exported.head = newest, head.String()
	return nil
}

// push completes where the history goes with the key. Without it there is nothing
// that pushd could do.
func (v *revealer) push(p svcconf.Push) svcconf.Push {
	if p.Repository == "" {
		return svcconf.Push{}
	}
	key, ok := v.value(p.Secret)
	if !ok {
		return svcconf.Push{}
	}
	p.Key = key.Reveal()
	return p
}

// pushOf is how pushing goes; nil if the history stays on the box. Pushd may have been
// taken over: what it says is shown as its word, and cut short.
func (r *Reconciler) pushOf(v *view) *api.Push {
	p := v.cfg.System.Push
	if p == nil {
		return nil
	}
	to := ""
	if v.result != nil {
		to = v.result.Policy.RemoteOfHistory().String()
	}
	shown := &api.Push{To: fmt.Sprintf("ssh://%s@%s%s", p.User, to, p.Path)}
	data, err := file.Read(filepath.Join(r.o.Run, svcconf.Pushd.Name, svcconf.StatusFile), maxPushStatus)
	if err != nil {
		return shown
	}
	s, err := strictjson.Decode[svcconf.PushStatus](bytes.NewReader(data))
	if err != nil {
		return shown
	}
	if id, err := gitrepo.ParseID(s.Head); err == nil {
		shown.Head, shown.Time = id.String(), s.At
	}
	if s.Error != "" {
		shown.Error, shown.Failing = cut(plain(s.Error), reachBytes), s.Failing
	}
	return shown
}

// plain replaces what a terminal could take for more than text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}
