package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"bulkhead/services/flow/record"
)

// segment is a file of records that have ended on one day.
//
// Its name says what it holds, and what it must be to be believed: the tail, which is all
// that follows the pages, and its checksum. The tail in turn has checksums of the blocks
// of pages before it. So no byte of a damaged file reaches the Parquet library, which
// would make room for whatever sizes it reads.
type segment struct {
	day   string
	first int64 // earliest end of a record, in milliseconds; and latest
	last  int64
	seq   uint64 // of the generation
	tail  uint32 // bytes
	sum   uint32 // CRC-32C of the tail
	size  int64
	temp  bool // written and not synced yet
}

const (
	dayFormat = "2006-01-02"
	extension = ".parquet"
	temporary = ".tmp"
	setAside  = ".damaged"

	blockSize = 16 << 10
	blockSums = "bulkhead.blocks" // key in the file's metadata: see sumBlocks
	maxTail   = 8 << 20
	pageSize  = 64 << 10 // of values in memory: 8,192 rows of a column of 64 bits

	// To be put up with in a file whose checksums are right and whose content is not.
	maxFileRows = maxRows
)

func dayOf(end int64) string { return time.UnixMilli(end).UTC().Format(dayFormat) }

// name is that of the file, without its directory.
func (s *segment) name() string {
	return fmt.Sprintf("%d-%d-%d-%08x%08x%s", s.first, s.last, s.seq, s.tail, s.sum, extension)
}

// path is where the file is now.
func (s *segment) path() string {
	if s.temp {
		return s.day + "/" + s.name() + temporary
	}
	return s.day + "/" + s.name()
}

// parseSegment reads a name.
func parseSegment(day, name string) (*segment, bool) {
	base, ok := strings.CutSuffix(name, extension)
	parts := strings.Split(base, "-")
	if !ok || len(parts) != 4 || len(parts[3]) != 16 {
		return nil, false
	}
	s := &segment{day: day}
	var err [4]error
	s.first, err[0] = strconv.ParseInt(parts[0], 10, 64)
	s.last, err[1] = strconv.ParseInt(parts[1], 10, 64)
	s.seq, err[2] = strconv.ParseUint(parts[2], 10, 64)
	seal, e := strconv.ParseUint(parts[3], 16, 64)
	err[3] = e
	s.tail, s.sum = uint32(seal>>32), uint32(seal)
	return s, errors.Join(err[:]...) == nil && s.name() == name
}

// encode makes a segment of the rows, in their order.
func encode(day string, seq uint64, rows []row, shapes []record.Record, order []int32) (*segment, []byte, error) {
	s := &segment{day: day, seq: seq}
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[line](&buf, schema, parquet.Compression(compressed), parquet.WriteBufferSize(0),
		parquet.PageBufferSize(pageSize), parquet.DataPageStatistics(false), parquet.CreatedBy("bulkhead", "1", ""),
		parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("src_zone"), parquet.Ascending("src_device"))))
	lines := make([]line, 0, 512)
	flush := func() error {
		_, err := w.Write(lines)
		lines = lines[:0]
		return err
	}
	for i, n := range order {
		r := &rows[n]
		end := r.start + r.duration
		if i == 0 {
			s.first, s.last = end, end
		}
		s.first, s.last = min(s.first, end), max(s.last, end)
		if lines = append(lines, lineOf(&shapes[r.shape], r)); len(lines) == cap(lines) {
			if err := flush(); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := errors.Join(flush(), w.Flush()); err != nil {
		return nil, nil, err
	}
	pages := buf.Len()
	w.SetKeyValueMetadata(blockSums, sumBlocks(buf.Bytes()))
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	s.tail = uint32(buf.Len() - pages)
	s.sum = crc32.Checksum(buf.Bytes()[pages:], castagnoli)
	s.size = int64(buf.Len())
	return s, buf.Bytes(), nil
}

// sumBlocks is what the metadata say of the pages: their length in bytes, and the CRC-32C
// of each block, all of 32 bits, big-endian, in hexadecimal.
func sumBlocks(data []byte) string {
	sums := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	for len(data) > 0 {
		n := min(len(data), blockSize)
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(data[:n], castagnoli))
		data = data[n:]
	}
	return hex.EncodeToString(sums)
}

// errDamaged is of a segment whose content is not what was written.
var errDamaged = errors.New("damaged")

// checked reads a segment's file, and fails where it is not what was written.
type checked struct {
	file   reader
	begin  int64  // of the tail
	tail   []byte // checked
	sums   []byte
	block  [blockSize]byte
	loaded int64 // which block that is; -1: none
}

// openChecked reads the tail.
func (s *segment) openChecked(d disk) (*checked, int64, error) {
	f, err := d.Open(s.path())
	if s.temp && errors.Is(err, fs.ErrNotExist) { // it has got its name meanwhile
		f, err = d.Open(s.day + "/" + s.name())
	}
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	c := &checked{file: f, begin: size - int64(s.tail), loaded: -1}
	switch {
	case err != nil:
	case c.begin < 4 || s.tail < 8 || s.tail > maxTail:
		err = fmt.Errorf("%d bytes: %w", size, errDamaged)
	default:
		c.tail = make([]byte, s.tail)
		if _, err = f.ReadAt(c.tail, c.begin); err != nil || crc32.Checksum(c.tail, castagnoli) != s.sum {
			err = errors.Join(errDamaged, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return c, size, nil
}

func (c *checked) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		from := at + int64(n)
		switch {
		case from >= c.begin+int64(len(c.tail)):
			return n, io.EOF
		case from >= c.begin:
			n += copy(p[n:], c.tail[from-c.begin:])
			continue
		}
		i := from / blockSize
		if err := c.load(i); err != nil {
			return n, err
		}
		length := min(blockSize, c.begin-i*blockSize)
		n += copy(p[n:], c.block[from-i*blockSize:length])
	}
	return n, nil
}

func (c *checked) load(i int64) error {
	if c.loaded == i {
		return nil
	}
	c.loaded = -1
	b := c.block[:min(blockSize, c.begin-i*blockSize)]
	if _, err := c.file.ReadAt(b, i*blockSize); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err) // a card that cannot read it now never will
	}
	if int(i) >= len(c.sums)/4 || crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(c.sums[i*4:]) {
		return fmt.Errorf("block %d: %w", i, errDamaged)
	}
	c.loaded = i
	return nil
}

// opened is a segment that is being read.
type opened struct {
	c      *checked
	chunks []parquet.ColumnChunk
	rows   int
}

func (o *opened) close() { o.c.file.Close() }

// open opens the segment. The error wraps errDamaged if that is why it cannot be read,
// and [fs.ErrNotExist] if it is gone.
func (s *segment) open(d disk) (*opened, error) {
	c, size, err := s.openChecked(d)
	if err != nil {
		return nil, err
	}
	o, err := c.parse(size)
	if err != nil {
		c.file.Close()
		return nil, err
	}
	return o, nil
}

func (c *checked) parse(size int64) (o *opened, err error) {
	defer guard(&err)
	f, err := parquet.OpenFile(c, size, parquet.SkipMagicBytes(true), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true),
		parquet.ReadBufferSize(blockSize), parquet.FileSchema(schema))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	sums, _ := f.Lookup(blockSums)
	c.sums, err = hex.DecodeString(sums)
	if err != nil || len(c.sums) < 4 || int64(binary.BigEndian.Uint32(c.sums)) != c.begin {
		return nil, fmt.Errorf("%w: %d bytes before the tail", errDamaged, c.begin)
	}
	c.sums = c.sums[4:]
	groups := f.RowGroups()
	if len(groups) != 1 || groups[0].NumRows() > maxFileRows || len(groups[0].ColumnChunks()) != numColumns {
		return nil, fmt.Errorf("%w: %d row groups", errDamaged, len(groups))
	}
	return &opened{c, groups[0].ColumnChunks(), int(groups[0].NumRows())}, nil
}

// guard makes an error of a panic, which the Parquet library answers what it does not
// expect with.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, p)
	}
}

// span is rows from one to before another.
type span struct{ from, to int }

// pages hands the pages of a column that hold rows of the spans to yield, with the row
// that they begin at. The spans are in order.
func (o *opened) pages(col int, spans []span, yield func(p parquet.Page, first int) error) (err error) {
	defer guard(&err)
	chunk := o.chunks[col]
	index, err := chunk.OffsetIndex() // has pages skipped
	if err != nil {
		return fmt.Errorf("%w: column %d: %w", errDamaged, col, err)
	}
	pages := chunk.Pages()
	defer pages.Close()
	for i := range index.NumPages() {
		first, end := int(index.FirstRowIndex(i)), o.rows
		if i+1 < index.NumPages() {
			end = int(index.FirstRowIndex(i + 1))
		}
		for len(spans) > 0 && spans[0].to <= first {
			spans = spans[1:]
		}
		if len(spans) == 0 {
			return nil
		}
		if spans[0].from >= end {
			continue
		}
		err := pages.SeekToRow(int64(first))
		var p parquet.Page
		if err == nil {
			p, err = pages.ReadPage()
		}
		if err != nil {
			return fmt.Errorf("%w: column %d: %w", errDamaged, col, err)
		}
		if int(p.NumValues()) != end-first || first+int(p.NumValues()) > o.rows {
			err = fmt.Errorf("%w: column %d: %d values for %d rows", errDamaged, col, p.NumValues(), end-first)
		} else {
			err = yield(p, first)
		}
		parquet.Release(p)
		if err != nil {
			return err
		}
	}
	return nil
}
