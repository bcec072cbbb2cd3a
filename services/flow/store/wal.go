package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"bulkhead/services/flow/record"
)

// A write-ahead file begins with walMagic. Then come batches: their length in bytes as a
// uvarint, the CRC-32C of their bytes, and those, which [batches] understands if it has
// read the batches before. A file that was cut ends within a batch, or in zeros.
const (
	walMagic = "flow wal 1\n"
	maxBatch = 4 << 20 // bytes
	maxWAL   = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func walName(seq uint64) string { return fmt.Sprintf("wal-%d", seq) }

// wal is a write-ahead file that is being written.
type wal struct {
	f       writer
	batches *batches
}

// createWAL makes a generation's file. Its name does not last before the directory is synced.
func createWAL(d disk, seq uint64) (*wal, error) {
	f, err := d.Create(walName(seq))
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(f, walMagic); err != nil {
		f.Close()
		return nil, err
	}
	return &wal{f, newBatches()}, nil
}

// append writes a batch and syncs it, and returns how many bytes that were. After an
// error the file is of no use any more.
func (w *wal) append(rows []row, shapes []record.Record) (int, error) {
	payload, err := w.batches.append(nil, rows, shapes)
	if err != nil {
		return 0, err
	}
	data := binary.AppendUvarint(nil, uint64(len(payload)))
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(payload, castagnoli))
	n, err := w.f.Write(append(data, payload...))
	if err != nil {
		return n, err
	}
	return n, w.f.Sync()
}

// cutWAL says that a write-ahead file ends in what is no batch.
type cutWAL struct {
	whole   int64 // bytes before that
	damaged bool  // it is not the end of the file, so not the last thing that was written
}

func (e *cutWAL) Error() string {
	if e.damaged {
		return fmt.Sprintf("damaged behind byte %d", e.whole)
	}
	return fmt.Sprintf("cut off behind byte %d", e.whole)
}

// readWAL hands the rows of all whole batches to yield, and returns what is needed to go
// on writing. The error is a *cutWAL if there is more in the file than that.
func readWAL(data []byte, yield func(row)) (*batches, error) {
	b := newBatches()
	rest, ok := cutPrefix(data, walMagic)
	if !ok {
		damaged := len(data) >= len(walMagic) && string(data[:len(walMagic)]) != string(make([]byte, len(walMagic)))
		return b, &cutWAL{0, damaged}
	}
	for len(rest) > 0 {
		whole := int64(len(data) - len(rest))
		n, head := binary.Uvarint(rest)
		if head <= 0 || n == 0 || n > maxBatch || n > uint64(len(rest)) || len(rest)-head-4 < int(n) {
			return b, &cutWAL{whole, n > maxBatch}
		}
		sum := binary.BigEndian.Uint32(rest[head:])
		payload := rest[head+4:][:n]
		rest = rest[head+4+int(n):]
		if crc32.Checksum(payload, castagnoli) != sum {
			return b, &cutWAL{whole, len(rest) > 0}
		}
		// The checksum was right, so that this cannot fail but for a mistake in here.
		// Rows of a batch that is half read are whole.
		if err := b.read(payload, yield); err != nil {
			return b, errors.Join(err, &cutWAL{whole, true})
		}
	}
	return b, nil
}

func cutPrefix(data []byte, prefix string) ([]byte, bool) {
	if len(data) < len(prefix) || string(data[:len(prefix)]) != prefix {
		return nil, false
	}
	return data[len(prefix):], true
}
