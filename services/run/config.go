package run

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"bulkhead/netcfg/strictjson"
	"bulkhead/services/file"
)

// maxFile bounds what is read of a file that another process wrote, in bytes. It is
// above what 65,536 leases take.
const maxFile = 32 << 20

// retry is how often a directory that is not there is looked for.
const retry = time.Second

// ackFile is where a service says which configuration it serves, beside it: svcconf.AckFile.
const ackFile = "ack"

// WatchConfig follows a service's own configuration, as [WatchFile] does, and
// acknowledges each version that apply has taken: it writes the SHA-256 of the file,
// in hexadecimal, to the file "ack" beside it. There is none before the first.
func WatchConfig[T any](ctx context.Context, log *slog.Logger, path string, apply func(T) error) error {
	ack := filepath.Join(filepath.Dir(path), ackFile)
	// A process before this one may have taken what is there now, and died of it.
	if err := os.Remove(ack); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("take back what a process before acknowledged", "err", err)
	}
	return watch(ctx, log, path, func(v T, data []byte) error {
		if err := apply(v); err != nil {
			return err
		}
		if err := file.Replace(ack, fmt.Appendf(nil, "%x\n", sha256.Sum256(data)), 0o640, -1); err != nil {
			log.Error("acknowledge the configuration", "err", err)
		}
		return nil
	})
}

// WatchFile calls apply with the JSON value in the file at path, and again with
// each new version of it, until ctx ends. It waits for a file, or a directory, that
// is not there yet. Values arrive in order, one at a time; versions that were
// replaced before they could be read, or that are equal byte for byte, are skipped.
//
// What cannot be read strictly (unknown fields, trailing bytes, more than 32 MiB,
// links, pipes) and what apply refuses is logged once, and the value before it stays
// in force. So it does when the file goes away. Writers replace the file by rename, or readers
// see halves.
//
// WatchFile returns ctx's error, or an error from apply that wraps [ErrDisabled].
func WatchFile[T any](ctx context.Context, log *slog.Logger, path string, apply func(T) error) error {
	return watch(ctx, log, path, func(v T, _ []byte) error { return apply(v) })
}

// watch is [WatchFile] for those who need the file as it is as well.
func watch[T any](ctx context.Context, log *slog.Logger, path string, apply func(T, []byte) error) error {
	log = log.With("file", path)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var last []byte
	look := func() error {
		data, err := file.Read(path, maxFile)
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
		v, err := strictjson.Decode[T](bytes.NewReader(data))
		if err == nil {
			err = apply(v, data)
		}
		if errors.Is(err, ErrDisabled) {
			return err
		}
		if err != nil {
			log.Error("configuration ignored", "err", err)
		}
		return nil
	}
	said := "" // by a watcher that could not begin
	for {
		changes, err := file.Watch(ctx, path)
		switch {
		case err == nil:
			if err := follow(changes, look); err != nil {
				stop()
				for range changes { // until the watcher is gone
				}
				return err
			}
			said = ""
		case !errors.Is(err, fs.ErrNotExist) && err.Error() != said:
			said = err.Error()
			log.Error("cannot watch", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// follow looks once, and then whenever there is word of a change. Only what happens
// after a watch began is told of, so the first look comes then.
func follow(changes <-chan struct{}, look func() error) error {
	if err := look(); err != nil {
		return err
	}
	for range changes {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}
