package build

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/disk"
	"bulkhead/services/update/fat"
)

// permTemplate makes the file system that /perm begins with, compressed. It is small,
// since a box writes all of it when it starts for the first time, and has room for
// what describes 2 TiB; beyond that the kernel finds room elsewhere.
//
// Its GUID is the same on all boxes: nothing goes by it.
func (b *builder) permTemplate(ctx context.Context, path string) error {
	image := filepath.Join(b.work, "perm.ext4")
	if err := os.WriteFile(filepath.Join(b.work, mke2fsConf), []byte("[fs_types]\next4 = {\n}\nsmall = {\n}\n"), 0o600); err != nil {
		return err
	}
	_, err := b.tool(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "perm",
		"-U", "6b756c62-6865-6164-8000-000000000004", "-b", "4096", "-I", "256", "-N", "2048", "-m", "1", "-e", "remount-ro",
		"-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
		"-J", "size=8",
		"-E", "root_owner=0:0,hash_seed=6b756c62-6865-6164-8000-000000000005,lazy_itable_init=0,lazy_journal_init=0,nodiscard,resize=536870912",
		image, "32M")
	if err != nil {
		return err
	}
	in, err := os.Open(image)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err == nil {
		_, err = io.Copy(z, in)
		err = errors.Join(err, z.Close())
	}
	return errors.Join(err, out.Close())
}

// kernelBytes is the size of a slot's kernel on the boot partition. It never changes
// on a box, so it has room for kernels to come.
func kernelBytes(arch string) int64 {
	if arch == "arm64" {
		return 48 * disk.MiB // they are not compressed
	}
	return 24 * disk.MiB
}

// file is one for a FAT volume.
type file struct {
	path string // there
	from string // here
}

// fatVolume makes a FAT volume of files, whose folders exist in the order given.
func (b *builder) fatVolume(ctx context.Context, image string, bytes int64, mkfs, folders []string, files []file) error {
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(bytes), f.Close())
	}
	if err != nil {
		return err
	}
	// --invariant leaves out the clock, which names the volume otherwise.
	args := append([]string{"--invariant", "-h", "0"}, mkfs...)
	if _, err := b.tool(ctx, "mkfs.vfat", append(args, image)...); err != nil {
		return err
	}
	args = []string{"-i", image}
	for _, d := range folders {
		args = append(args, "::"+d)
	}
	if _, err := b.tool(ctx, "mmd", args...); err != nil {
		return err
	}
	for _, f := range files {
		if _, err := b.tool(ctx, "mcopy", "-i", image, f.from, "::"+f.path); err != nil {
			return err
		}
	}
	if _, err := b.tool(ctx, "fsck.vfat", "-n", image); err != nil {
		return fmt.Errorf("%s is not as it should be: %w", filepath.Base(image), err)
	}
	return nil
}

// loaderConf keeps who has only a keyboard from changing the kernel's command line.
const loaderConf = "timeout 0\neditor no\n"

// espImage makes the boot partition: slot a with this kernel, slot b empty, all files
// of the size that they keep for the life of a box.
func (b *builder) espImage(ctx context.Context) error {
	size := kernelBytes(b.Arch)
	padded, empty := filepath.Join(b.work, "vmlinuz.padded"), filepath.Join(b.work, "vmlinuz.empty")
	if err := pad(b.kernelFile(), padded, size); err != nil {
		return err
	}
	if err := pad(os.DevNull, empty, size); err != nil {
		return err
	}
	loader, err := b.bootLoader(ctx)
	if err != nil {
		return err
	}
	files := []file{{"/EFI/BOOT/" + loaderName(b.Arch), loader}, {boot.A.Kernel(), padded}, {boot.B.Kernel(), empty}}
	for _, e := range []struct {
		name string
		data func() ([]byte, error)
	}{
		{"/loader/loader.conf", func() ([]byte, error) { return []byte(loaderConf), nil }},
		{boot.EntriesDir + "/" + boot.EntryName(boot.A, boot.Good), boot.Entry{
			Slot: boot.A, Serial: b.Serial, Version: b.info.Version, Built: b.info.Built.Format("2006-01-02T15:04:05Z07:00"), Options: b.cmdline(),
		}.Render},
		{boot.EntriesDir + "/" + boot.EntryName(boot.B, boot.Disabled), emptyEntry},
	} {
		data, err := e.data()
		if err != nil {
			return err
		}
		path := filepath.Join(b.work, filepath.Base(e.name))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		files = append(files, file{e.name, path})
	}
	err = b.fatVolume(ctx, b.espFile(), disk.ESPBytes, []string{"-F", "32", "-s", "2", "-i", "b01cead1", "-n", "BOOT"},
		[]string{"/EFI", "/EFI/BOOT", "/a", "/b", "/loader", "/loader/entries"}, files)
	if err != nil {
		return err
	}
	return contiguous(b.espFile(), files)
}

// emptyEntry fills the place of a loader entry that says nothing, which the boot
// loader passes over.
func emptyEntry() ([]byte, error) {
	b := make([]byte, boot.EntryBytes)
	for i := range b {
		b[i] = '\n'
	}
	copy(b, "# empty")
	return b, nil
}

// contiguous reports files that are in pieces: updates overwrite them in place.
func contiguous(image string, files []file) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := disk.Bytes(f)
	if err != nil {
		return err
	}
	vol, err := fat.Open(f, size)
	if err != nil {
		return err
	}
	for _, want := range files {
		e, err := vol.Lookup(want.path)
		if err != nil {
			return err
		}
		parts, err := vol.Extents(e)
		if err != nil {
			return err
		}
		if len(parts) != 1 {
			return fmt.Errorf("%s is in %d pieces on the boot partition, want 1", want.path, len(parts))
		}
	}
	return nil
}

// pad copies a file and fills it up with zeros.
func pad(from, to string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	if err == nil && n > size {
		err = fmt.Errorf("%s has %d bytes, and there is room for %d", from, n, size)
	}
	if err == nil {
		err = out.Truncate(size)
	}
	return errors.Join(err, out.Close())
}
