package build

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"bulkhead/services/update/disk"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/manifest"
)

// diskImage puts partitions and table together. What is empty takes no space in the
// file.
func (b *builder) diskImage(context.Context) error {
	out, err := os.Create(b.imageFile())
	if err != nil {
		return err
	}
	return errors.Join(b.writeDisk(out), out.Close())
}

func (b *builder) writeDisk(out *os.File) error {
	if err := out.Truncate(disk.ImageBytes); err != nil {
		return err
	}
	table := disk.ImageTable(b.number())
	if err := disk.Create(out, table); err != nil {
		return err
	}
	for n, path := range map[int]string{disk.ESP: b.espFile(), disk.RootA: b.rootImage()} {
		part := table.Partition(n)
		if err := copySparse(out, path, part.Start(), part.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// copySparse copies the file at path to an offset of a file of zeros.
func copySparse(out io.WriterAt, path string, at, limit int64) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for done := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if done+int64(n) > limit {
			return fmt.Errorf("%s does not fit into its partition of %d MiB", filepath.Base(path), limit/disk.MiB)
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at+done); err != nil {
				return err
			}
		}
		done += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// archive makes a gokrazy archive: an uncompressed zip.
func (b *builder) archive(ctx context.Context) error {
	if err := b.bootImage(ctx); err != nil {
		return err
	}
	info, err := json.Marshal(b.info)
	if err != nil {
		return err
	}
	mbr, about := filepath.Join(b.work, "mbr.img"), filepath.Join(b.work, manifest.InfoFile)
	for name, data := range map[string][]byte{mbr: disk.ProtectiveMBR(), about: append(info, '\n')} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err
		}
	}
	out, err := os.Create(b.archiveFile())
	if err != nil {
		return err
	}
	z := zip.NewWriter(out)
	for _, f := range []file{
		{"mbr.img", mbr}, {gaf.BootFile, b.bootFile()}, {gaf.RootFile, b.rootImage()}, {gaf.SBOMFile, b.sbomFile()}, {manifest.InfoFile, about},
	} {
		if err := b.store(z, f); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return errors.Join(z.Close(), out.Close())
}

func (b *builder) bootFile() string { return filepath.Join(b.work, "boot.img") }

func (b *builder) store(z *zip.Writer, f file) error {
	in, err := os.Open(f.from)
	if err != nil {
		return err
	}
	defer in.Close()
	w, err := z.CreateHeader(&zip.FileHeader{Name: f.path, Method: zip.Store, Modified: b.Revision.Time.UTC()})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

// bootImage makes the archive's boot.img: in it, what a box takes is the kernel and
// its command line.
func (b *builder) bootImage(ctx context.Context) error {
	loader, err := b.bootLoader(ctx)
	if err != nil {
		return err
	}
	cmdline, entry := filepath.Join(b.work, "cmdline.txt"), filepath.Join(b.work, "gokrazy.conf")
	for name, text := range map[string]string{
		cmdline: b.cmdline() + "\n",
		entry:   "title Bulkhead " + b.info.Version + "\nlinux /vmlinuz\noptions " + b.cmdline() + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	i, err := os.Stat(b.kernelFile())
	if err != nil {
		return err
	}
	// With room for the tables of the volume, in whole MiB.
	size := (i.Size()/disk.MiB + 3) * disk.MiB
	return b.fatVolume(ctx, b.bootFile(), max(size, 12*disk.MiB), []string{"-F", "16", "-s", "4", "-i", "b01cead1", "-n", "BOOT"},
		[]string{"/EFI", "/EFI/BOOT", "/loader", "/loader/entries"}, []file{
			{"/vmlinuz", b.kernelFile()}, {"/cmdline.txt", cmdline},
			{"/EFI/BOOT/" + loaderName(b.Arch), loader}, {"/loader/entries/gokrazy.conf", entry},
		})
}
