// Package manifest is what an image says about itself, and the signatures that let a
// box believe it. It reads and writes no files.
package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"bulkhead/netcfg/strictjson"
)

// Names of files: of the two that signing adds to an archive, and of the one that the
// root file system carries, which archives may carry as well.
const (
	File           = "manifest.json"
	SignaturesFile = "signatures.json"
	InfoFile       = "image.json" // below /etc/bulkhead
)

// MaxBytes bounds a manifest and a list of signatures, each.
const MaxBytes = 16 << 10

// MaxPart bounds the kernel and the root, each, in bytes: far above what fits.
const MaxPart = 2 << 30

// Info is what an image says about itself, apart from hashes.
type Info struct {
	Version string    `json:"version"`
	Built   time.Time `json:"built"`
	Arch    string    `json:"arch"` // as GOARCH
	Git     string    `json:"git,omitempty"`
	Kernel  string    `json:"kernel,omitempty"` // version
}

// Manifest says what is in an image. Signatures are over its bytes, so those are kept.
type Manifest struct {
	Format  int       `json:"format"` // 1
	Arch    string    `json:"arch"`
	Version string    `json:"version"`
	Built   time.Time `json:"built"`   // orders images of one box
	Cmdline string    `json:"cmdline"` // of the kernel; the box fills in root=
	Kernel  Part      `json:"kernel"`
	Root    Part      `json:"root"`
}

// Part is one of the two parts of an image.
type Part struct {
	Size    int64  `json:"size"`              // bytes
	SHA256  string `json:"sha256"`            // hexadecimal
	Version string `json:"version,omitempty"` // of the kernel
}

var (
	version = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}$`)
	cmdline = regexp.MustCompile(`^[!-~]+( [!-~]+)*$`)
)

// maxCmdline is what fits into a loader entry beside the rest, in bytes.
const maxCmdline = 320

// Check says what is wrong with a manifest.
func (m Manifest) Check() error {
	switch {
	case m.Format != 1:
		return fmt.Errorf("manifest: format %d is not known here: the image may need a newer bulkhead first", m.Format)
	case m.Arch != "amd64" && m.Arch != "arm64":
		return fmt.Errorf("manifest: unknown architecture %q", m.Arch)
	case !version.MatchString(m.Version):
		return fmt.Errorf("manifest: version %q: want letters, digits and . + ~ _ -, at most 64", m.Version)
	case m.Built.Year() < 2000 || m.Built.Year() > 9999:
		return fmt.Errorf("manifest: built at %s: that is no time", m.Built)
	case len(m.Cmdline) > maxCmdline || !cmdline.MatchString(m.Cmdline):
		return fmt.Errorf("manifest: command line %.80q: want words in ASCII with single spaces in between, at most %d bytes", m.Cmdline, maxCmdline)
	}
	for what, p := range map[string]Part{"kernel": m.Kernel, "root": m.Root} {
		if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != 32 {
			return fmt.Errorf("manifest: %s: sha256 %.80q: want 64 hexadecimal digits", what, p.SHA256)
		}
		if p.Size <= 0 || p.Size > MaxPart {
			return fmt.Errorf("manifest: %s: %d bytes: want 1 to %d", what, p.Size, MaxPart)
		}
		if p.Version != "" && !version.MatchString(p.Version) {
			return fmt.Errorf("manifest: %s: version %.80q", what, p.Version)
		}
	}
	return nil
}

// Parse reads a manifest. It takes nothing that it does not know.
func Parse(data []byte) (Manifest, error) {
	m, err := decode[Manifest](data)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, m.Check()
}

// Bytes returns the manifest as it is signed and sent.
func (m Manifest) Bytes() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// ParseInfo reads what an image says about itself.
func ParseInfo(data []byte) (Info, error) {
	i, err := decode[Info](data)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", InfoFile, err)
	}
	return i, nil
}

func decode[T any](data []byte) (T, error) {
	var zero T
	if len(data) > MaxBytes {
		return zero, fmt.Errorf("%d bytes, more than %d", len(data), MaxBytes)
	}
	return strictjson.Decode[T](bytes.NewReader(data))
}
