package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bulkhead/services/file"
	"bulkhead/services/update/manifest"
	"bulkhead/webui/remote"
)

// signingFile is the name of the key that signs images, in [remote.Dir].
const signingFile = "signing.key"

// errNoKey says that the user has no key.
var errNoKey = errors.New("there is no key of yours yet; make one: bulkhead keys new")

// readSigningKey returns the user's key, and where it is. The error is [errNoKey] if
// there is none. As ssh does, it takes no key that others could read.
func readSigningKey() (key manifest.PrivateKey, path string, err error) {
	dir, err := remote.Dir()
	if err != nil {
		return key, "", err
	}
	path = filepath.Join(dir, signingFile)
	info, err := file.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return key, path, errNoKey
	}
	if err != nil {
		return key, path, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return key, path, fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, and think about who may have it", path, mode)
	}
	data, err := file.Read(path, 4<<10)
	if err != nil {
		return key, path, err
	}
	if key, err = manifest.ParsePrivateKey(string(data)); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return key, path, err
}

// signingKey returns the user's key, and makes one if there is none.
func signingKey() (key manifest.PrivateKey, path string, err error) {
	if key, path, err = readSigningKey(); !errors.Is(err, errNoKey) {
		return key, path, err
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails: crypto/rand
	if key, err = manifest.NewPrivateKey(seed[:]); err != nil {
		return key, path, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return key, path, err
	}
	if err := file.Replace(path, []byte(key.Secret()), 0o600, -1); err != nil {
		return key, path, err
	}
	return key, path, file.SyncDir(dir)
}
