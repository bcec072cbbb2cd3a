package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"filippo.io/age"

	"bulkhead/services/file"
)

// Bounds on what is read, in bytes.
const (
	maxContent = 1 << 20             // a hundred keys of the largest kind, or all the tokens that there may be
	maxFile    = maxContent + 64<<10 // a header of at most 1.5 KiB for each recipient, and a tag for each 64 KiB
	maxKeyFile = 4 << 10
)

// seal encrypts data to recipients.
func seal(data []byte, to []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// unseal is the inverse of seal.
func unseal(data []byte, key age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(data), key)
	if err != nil {
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return nil, errors.New("it is not encrypted to this box's key")
		}
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxContent+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is damaged: %w", err)
	case len(plain) > maxContent:
		return nil, fmt.Errorf("it holds more than %d bytes", maxContent)
	}
	return plain, nil
}

// readKey returns the box's own key. The error wraps [fs.ErrNotExist] if it has none.
func readKey(path string) (*age.X25519Identity, error) {
	data, err := file.Read(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the box's key is missing: %w", err)
	}
	if err != nil {
		return nil, err
	}
	k, err := age.ParseX25519Identity(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, errors.New("the box's key is damaged") // err may quote it
	}
	return k, nil
}
