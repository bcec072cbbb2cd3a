package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PE machine types, from Microsoft's PE Format.
var machines = map[uint16]string{0x8664: "amd64", 0xaa64: "arm64"}

// KernelArch returns the architecture of a kernel, as GOARCH, by the header that makes
// it a program for UEFI: that is what the boot loader needs it to be.
func KernelArch(r io.ReaderAt) (string, error) {
	none := errors.New("not a kernel that UEFI can start (CONFIG_EFI_STUB)")
	var dos [64]byte
	if _, err := r.ReadAt(dos[:], 0); err != nil || dos[0] != 'M' || dos[1] != 'Z' {
		return "", none
	}
	var pe [6]byte
	if _, err := r.ReadAt(pe[:], int64(binary.LittleEndian.Uint32(dos[60:]))); err != nil || string(pe[:4]) != "PE\x00\x00" {
		return "", none
	}
	machine := binary.LittleEndian.Uint16(pe[4:])
	if arch, ok := machines[machine]; ok {
		return arch, nil
	}
	return "", fmt.Errorf("a kernel for another machine (PE type %#x)", machine)
}

// KernelVersion returns a kernel's version as it names itself in its header, or "".
// Only x86 kernels do so: The Linux/x86 Boot Protocol, kernel_version.
func KernelVersion(r io.ReaderAt) string {
	var b [4]byte
	if _, err := r.ReadAt(b[:], 0x202); err != nil || string(b[:]) != "HdrS" {
		return ""
	}
	if _, err := r.ReadAt(b[:2], 0x20e); err != nil {
		return ""
	}
	var text [64]byte
	n, _ := r.ReadAt(text[:], 0x200+int64(binary.LittleEndian.Uint16(b[:])))
	word, _, _ := bytes.Cut(text[:n], []byte{' '}) // 6.12.117 (user@host) #1 …
	if !version.Match(word) {
		return ""
	}
	return string(word)
}

// RootBytes returns how many bytes a root file system has, by its own word: it must be
// a squashfs, version 4.
func RootBytes(r io.ReaderAt) (int64, error) {
	var b [48]byte
	if _, err := r.ReadAt(b[:], 0); err != nil || string(b[:4]) != "hsqs" || binary.LittleEndian.Uint16(b[28:]) != 4 {
		return 0, errors.New("the root is not a squashfs")
	}
	if n := binary.LittleEndian.Uint64(b[40:]); n <= MaxPart {
		return int64(n), nil
	}
	return 0, errors.New("the root is a squashfs of an impossible size")
}

// CheckRoot says what is wrong with a root file system of which there are size bytes.
func CheckRoot(r io.ReaderAt, size int64) error {
	used, err := RootBytes(r)
	if err == nil && used > size {
		err = fmt.Errorf("the root is cut short: %d bytes of %d", size, used)
	}
	return err
}
