package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxFile bounds what is read of a file that another process wrote, in bytes.
const maxFile = 16 << 20

// retry is how often a directory that is not there is looked for.
const retry = time.Second

// WatchConfig calls apply with the JSON value in the file at path, and again with
// each new version of it, until ctx ends. It waits for a file, or a directory, that
// is not there yet. Values arrive in order, one at a time; versions that were
// replaced before they could be read, or that are equal byte for byte, are skipped.
//
// What cannot be read strictly (unknown fields, trailing bytes, more than 16 MiB)
// and what apply refuses is logged once, and the value before it stays in force. So
// it does when the file goes away. Writers replace the file by rename, or readers
// see halves.
//
// WatchConfig returns ctx's error, or an error from apply that wraps [ErrDisabled].
// It serves as well for files that services write for each other.
func WatchConfig[T any](ctx context.Context, log *slog.Logger, path string, apply func(T) error) error {
	log = log.With("file", path)
	var last []byte
	look := func() error {
		data, err := readFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			log.Error("configuration ignored", "err", err)
			return nil
		case last != nil && bytes.Equal(data, last):
			return nil
		}
		last = data
		v, err := decode[T](data)
		if err == nil {
			err = apply(v)
		}
		if errors.Is(err, ErrDisabled) {
			return err
		}
		if err != nil {
			log.Error("configuration ignored", "err", err)
		}
		return nil
	}
	for {
		// Each round ends when the directory goes away, which takes the kernel's
		// watch with it.
		if err := watchDir(ctx, path, look); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// watchDir calls look once and then whenever something happened to the file at
// path. It returns nil if its directory is not there or goes away.
func watchDir(ctx context.Context, path string, look func() error) error {
	// The directory and not the file: a rename gives the name a new inode, and the
	// file need not exist yet.
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer w.Close()
	dir := filepath.Dir(path)
	if err := w.Add(dir); err != nil {
		return nil
	}
	// Only now, or a version that came between looking and watching would be missed.
	if err := look(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.Errors: // events were lost, if anything
		case ev := <-w.Events:
			gone := ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename)
			if gone && filepath.Clean(ev.Name) == filepath.Clean(dir) {
				return nil
			}
			if filepath.Base(ev.Name) != filepath.Base(path) {
				continue
			}
		}
		if err := look(); err != nil {
			return err
		}
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, maxFile)
	}
	return data, nil
}

// decode reads exactly one JSON value without fields that T does not have: a
// service that is older than netcfgd must not guess what it is told.
func decode[T any](data []byte) (T, error) {
	var v, zero T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return zero, fmt.Errorf("decode: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return zero, fmt.Errorf("decode: something follows the value")
	}
	return v, nil
}
