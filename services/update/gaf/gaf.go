// Package gaf reads gokrazy archives, ours and those that gok makes, and signs them. An
// archive is a zip without compression: boot.img is a FAT volume with the kernel and its
// command line, root.img the root file system. Signing adds the manifest and the
// signatures. It decides nothing about what an image is good for.
package gaf

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead/services/update/fat"
	"bulkhead/services/update/manifest"
)

// Files of an archive.
const (
	BootFile = "boot.img"
	RootFile = "root.img"
	SBOMFile = "sbom.json"
)

// Files of a boot image.
const (
	KernelPath  = "/vmlinuz"
	CmdlinePath = "/cmdline.txt"
)

// maxSBOM bounds the bill of materials, in bytes.
const maxSBOM = 16 << 20

// An Archive is an open archive.
type Archive struct {
	Manifest   []byte // as it was signed; nil if the archive never was
	Signatures []manifest.Signature

	path string
	f    *os.File
	zip  *zip.Reader
	boot *fat.Volume
}

// Open opens the archive at path.
func Open(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a, err := Read(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.path = path
	return a, nil
}

// Read returns the archive in an open file, which it closes with itself. It cannot be
// signed.
func Read(f *os.File) (*Archive, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a := &Archive{f: f}
	if a.zip, err = zip.NewReader(f, info.Size()); err != nil {
		return nil, fmt.Errorf("not a gokrazy archive: %w", err)
	}
	boot, err := a.Part(BootFile)
	if err != nil {
		return nil, err
	}
	if a.boot, err = fat.Open(boot, boot.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w", BootFile, err)
	}
	if _, err := a.Part(RootFile); err != nil {
		return nil, err
	}
	if a.Manifest, err = a.read(manifest.File, manifest.MaxBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	signatures, err := a.read(manifest.SignaturesFile, manifest.MaxBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if a.Signatures, err = manifest.ParseSignatures(signatures); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close closes the archive.
func (a *Archive) Close() error { return a.f.Close() }

// file finds a file of the archive.
func (a *Archive) file(name string) (*zip.File, error) {
	for _, f := range a.zip.File {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("the archive has no %s: %w", name, fs.ErrNotExist)
}

// Part returns a file of the archive, none of which is compressed.
func (a *Archive) Part(name string) (*io.SectionReader, error) {
	f, err := a.file(name)
	if err != nil {
		return nil, err
	}
	if f.Method != zip.Store {
		return nil, fmt.Errorf("%s is compressed: archives of gokrazy's are not", name)
	}
	at, err := f.DataOffset()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(a.f, at, int64(f.UncompressedSize64)), nil
}

func (a *Archive) read(name string, limit int64) ([]byte, error) {
	f, err := a.file(name)
	if err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}

// Kernel returns the archive's kernel, and its size in bytes.
func (a *Archive) Kernel() (io.Reader, int64, error) { return a.boot.File(KernelPath) }

// Root returns the archive's root file system, and its size in bytes.
func (a *Archive) Root() (io.Reader, int64, error) {
	s, err := a.Part(RootFile)
	if err != nil {
		return nil, 0, err
	}
	return s, s.Size(), nil
}

// Describe makes the manifest of what is in the archive. The version and the time come
// from the archive where it says so, and otherwise from what gok leaves in it: the time
// of root.img, and the hash of the bill of materials. A version that is not "" wins.
func (a *Archive) Describe(version string) (manifest.Manifest, error) {
	info, err := a.info()
	if err != nil {
		return manifest.Manifest{}, err
	}
	if version != "" {
		info.Version = version
	}
	kernel, size, err := a.Kernel()
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", BootFile, err)
	}
	if size > manifest.MaxPart {
		return manifest.Manifest{}, fmt.Errorf("%s: a kernel of %d bytes", BootFile, size)
	}
	image, err := io.ReadAll(kernel)
	if err != nil {
		return manifest.Manifest{}, err
	}
	arch, err := manifest.KernelArch(bytes.NewReader(image))
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", BootFile, err)
	}
	if info.Arch != "" && info.Arch != arch {
		return manifest.Manifest{}, fmt.Errorf("the archive says that it is for %s, and its kernel is for %s", info.Arch, arch)
	}
	cmdline, err := a.boot.ReadFile(CmdlinePath, 4<<10)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", BootFile, err)
	}
	root, err := a.Part(RootFile)
	if err != nil {
		return manifest.Manifest{}, err
	}
	if err := manifest.CheckRoot(root, root.Size()); err != nil {
		return manifest.Manifest{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, root); err != nil {
		return manifest.Manifest{}, err
	}
	m := manifest.Manifest{
		Format: 1, Arch: arch, Version: info.Version, Built: info.Built,
		Cmdline: string(bytes.Join(bytes.Fields(cmdline), []byte(" "))),
		Kernel:  part(size, sha256.Sum256(image)),
		Root:    part(root.Size(), [32]byte(sum.Sum(nil))),
	}
	if m.Kernel.Version = info.Kernel; m.Kernel.Version == "" {
		m.Kernel.Version = manifest.KernelVersion(bytes.NewReader(image))
	}
	return m, m.Check()
}

func part(size int64, sum [32]byte) manifest.Part {
	return manifest.Part{Size: size, SHA256: hex.EncodeToString(sum[:])}
}

// info returns what the archive says about itself, or what stands in for it.
func (a *Archive) info() (manifest.Info, error) {
	data, err := a.read(manifest.InfoFile, manifest.MaxBytes)
	if err == nil {
		return manifest.ParseInfo(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return manifest.Info{}, err
	}
	root, err := a.file(RootFile)
	if err != nil {
		return manifest.Info{}, err
	}
	built := root.Modified.UTC().Truncate(time.Second)
	if built.Year() < 2000 { // gok writes no times
		st, err := a.f.Stat()
		if err != nil {
			return manifest.Info{}, err
		}
		built = st.ModTime().UTC().Truncate(time.Second)
	}
	info := manifest.Info{Built: built, Version: built.Format("2006.01.02")}
	var sbom struct {
		Hash string `json:"sbom_hash"`
	}
	if data, err := a.read(SBOMFile, maxSBOM); err == nil && json.Unmarshal(data, &sbom) == nil && len(sbom.Hash) >= 7 {
		info.Version += "-" + sbom.Hash[:7]
	}
	return info, nil
}

// Sign replaces the archive's manifest and signatures, in the file itself: it is
// written anew and renamed into place. The archive has to be opened again then.
func (a *Archive) Sign(m []byte, signatures []manifest.Signature) error {
	list, err := json.Marshal(signatures)
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(a.path, renameio.WithTempDir(filepath.Dir(a.path)), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer f.Cleanup()
	w := zip.NewWriter(f)
	for _, old := range a.zip.File {
		if old.Name == manifest.File || old.Name == manifest.SignaturesFile {
			continue
		}
		if err := w.Copy(old); err != nil {
			return fmt.Errorf("copy %s: %w", old.Name, err)
		}
	}
	for _, add := range []struct {
		name string
		data []byte
	}{{manifest.File, m}, {manifest.SignaturesFile, append(list, '\n')}} {
		// Without a time, so that signing twice makes the same bytes.
		out, err := w.CreateHeader(&zip.FileHeader{Name: add.name, Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := out.Write(add.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
