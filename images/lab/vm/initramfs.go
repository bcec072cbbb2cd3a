//go:build linux

package vm

import (
	"bytes"
	"fmt"
)

// File is one of an initramfs.
type File struct {
	Name string
	Mode uint32 // as stat(2) says it, with the type
	Data []byte
}

// Modes of a program, of a plain file and of a directory.
const (
	Program   = 0o100755
	Plain     = 0o100644
	Directory = 0o040755
)

// Initramfs returns an archive that a kernel started with it unpacks, in the "newc"
// format of Documentation/driver-api/early-userspace/buffer-format.rst of its source.
// Directories come before what is in them.
func Initramfs(files ...File) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for i, f := range append(files, File{Name: "TRAILER!!!"}) {
		b.WriteString("070701")
		// inode, mode, uid, gid, links, mtime, size, device and rdevice (two each),
		// length of the name, checksum
		for _, field := range []int{i + 1, int(f.Mode), 0, 0, 1, 0, len(f.Data), 0, 0, 0, 0, len(f.Name) + 1, 0} {
			fmt.Fprintf(&b, "%08x", field)
		}
		b.WriteString(f.Name + "\x00")
		pad()
		b.Write(f.Data)
		pad()
	}
	return b.Bytes()
}
