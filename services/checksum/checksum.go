// Package checksum is the Internet's, RFC 1071.
package checksum

// Add adds b to a sum in progress, which it takes 64 KiB to overflow. Only what is added
// last may have an odd length.
func Add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// Fold returns the ones' complement sum that a sum in progress stands for: 0xffff over a
// packet with its checksum. A checksum is its complement.
func Fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
