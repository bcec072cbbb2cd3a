package disk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID names a disk, a partition or a kind of partition. Its bytes are in the order
// of the text, not in that of the disk, where the first three fields are little
// endian (UEFI 2.10, appendix A).
type GUID [16]byte

// ParseGUID reads the usual form, 8-4-4-4-12 hexadecimal digits of either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	digits := strings.ReplaceAll(s, "-", "")
	if _, err := hex.Decode(g[:], []byte(digits)); len(digits) != 32 || err != nil || !strings.EqualFold(g.String(), s) {
		return GUID{}, fmt.Errorf("not a GUID: %q", s)
	}
	return g, nil
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String returns the form that the kernel's command line takes, in lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// swap turns the order of the text into that of the disk, and back.
func (g GUID) swap() GUID {
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(g[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(g[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(g[6:]))
	return g
}
