//go:build linux

package reconcile

import (
	"context"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// WatchFile watches a file by inotify on its directory: the file need not exist,
// and a rename gives its name a new inode. See [Options.WatchFile].
func WatchFile(ctx context.Context, path string) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := w.Add(dir); err != nil {
		w.Close()
		return nil, err
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer w.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.Errors: // events were lost, perhaps that of the file
				poke(changed)
			case ev := <-w.Events:
				if ev.Name == dir && ev.Has(fsnotify.Remove|fsnotify.Rename) {
					return // the kernel's watch went with the directory
				}
				if filepath.Base(ev.Name) == filepath.Base(path) && !ev.Has(fsnotify.Chmod) {
					poke(changed)
				}
			}
		}
	}()
	return changed, nil
}
