package store

import (
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
)

// compression is what segments are written with: one encoder, whose tables are megabytes
// and stay, where the Parquet library's own may be made anew for each page.
type compression struct{ *zstd.Encoder }

var compressed = func() compression {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // the options are wrong
	}
	return compression{e}
}()

func (compression) String() string                            { return "ZSTD" }
func (compression) CompressionCodec() format.CompressionCodec { return format.Zstd }

func (c compression) Encode(dst, src []byte) ([]byte, error) { return c.EncodeAll(src, dst[:0]), nil }

// Decode is not used: files are read with the codec that they name.
func (compression) Decode(dst, src []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.DecodeAll(src, dst[:0])
}
