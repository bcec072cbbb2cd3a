package checksum_test

import (
	"testing"

	"bulkhead/services/checksum"
)

// The example of RFC 1071 section 3, in one piece and in two, and with a byte more.
func TestExampleOfTheRFC(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := checksum.Fold(checksum.Add(0, b)); got != 0xddf2 {
		t.Errorf("got %#x", got)
	}
	if got := checksum.Fold(checksum.Add(checksum.Add(0, b[:4]), b[4:])); got != 0xddf2 {
		t.Errorf("in two pieces: got %#x", got)
	}
	if got := checksum.Fold(checksum.Add(0, append(b, 0x22))); got != 0xfff2 {
		t.Errorf("with an odd length: got %#x", got)
	}
	if got := checksum.Fold(checksum.Add(0, append(b, 0x22, 0x0d))); got != 0xffff {
		t.Errorf("with its checksum: got %#x", got)
	}
}
