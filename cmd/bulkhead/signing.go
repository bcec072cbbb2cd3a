package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"bulkhead/services/file"
	"bulkhead/services/update/manifest"
	"bulkhead/webui/remote"
)

// signingFile is the name of the key that signs images, in [remote.Dir].
const signingFile = "signing.key"

// signingKey returns the user's key, and makes one if there is none.
func signingKey() (key manifest.PrivateKey, path string, err error) {
	dir, err := remote.Dir()
	if err != nil {
		return key, "", err
	}
	path = filepath.Join(dir, signingFile)
	data, err := file.Read(path, 4<<10)
	if err == nil {
		key, err = manifest.ParsePrivateKey(string(data))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, path, err
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails: crypto/rand
	if key, err = manifest.NewPrivateKey(seed[:]); err != nil {
		return key, path, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return key, path, err
	}
	if err := file.Replace(path, []byte(key.Secret()), 0o600, -1); err != nil {
		return key, path, err
	}
	return key, path, file.SyncDir(dir)
}
