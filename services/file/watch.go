package file

import (
	"context"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Watch returns a channel on which a word stands after the file at path was made,
// replaced, written to or removed: one word for any number of changes. The channel
// is closed after ctx ends, and when the file's directory goes away.
//
// The file need not exist, its directory must: the error wraps [fs.ErrNotExist]
// otherwise. What happened before Watch returned is not told of.
func Watch(ctx context.Context, path string) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	// The directory and not the file: a rename gives the name a new inode.
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
			case ev := <-w.Events:
				if ev.Name == dir && ev.Has(fsnotify.Remove|fsnotify.Rename) {
					return // the kernel's watch went with the directory
				}
				if filepath.Base(ev.Name) != filepath.Base(path) {
					continue
				}
			}
			select {
			case changed <- struct{}{}:
			default: // a word stands already
			}
		}
	}()
	return changed, nil
}
