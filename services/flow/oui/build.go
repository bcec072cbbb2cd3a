package oui

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
)

// sources are the IEEE's lists in Debian's ieee-data, and the bits that each assigns.
var sources = []struct {
	name string
	bits byte
}{{"oui.csv", 24}, {"mam.csv", 28}, {"oui36.csv", 36}}

// Build makes a list of the IEEE's in a directory. The error wraps [io/fs.ErrNotExist] if
// none of them is there.
func Build(dir string) ([]byte, error) {
	entries := make(map[[prefixLen + 1]byte]string)
	for _, s := range sources {
		err := func() error {
			f, err := os.Open(filepath.Join(dir, s.name))
			if err != nil {
				return err
			}
			defer f.Close()
			return read(f, s.bits, entries)
		}()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the IEEE's lists in %s: %w", dir, fs.ErrNotExist)
	}
	return encode(entries)
}

// read reads a list: registry, assignment in hexadecimal, organisation, its address.
func read(r io.Reader, bits byte, entries map[[prefixLen + 1]byte]string) error {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	in.LazyQuotes = true // names have quotes in them
	if _, err := in.Read(); err != nil {
		return err
	}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row) < 3 || len(row[1]) != int(bits)/4 {
			return fmt.Errorf("row %.80q", row)
		}
		digits := row[1] + strings.Repeat("0", 2*prefixLen-len(row[1]))
		var mac model.MAC
		if _, err := hex.Decode(mac[:], []byte(digits)); err != nil {
			return fmt.Errorf("assignment %q: %w", row[1], err)
		}
		if name := short(row[2]); name != "" {
			entries[key(mac, bits)] = name
		}
	}
}

func encode(entries map[[prefixLen + 1]byte]string) ([]byte, error) {
	if len(entries) > maxEntry {
		return nil, fmt.Errorf("%d makers", len(entries))
	}
	keys := make([][prefixLen + 1]byte, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b [prefixLen + 1]byte) int { return bytes.Compare(a[:], b[:]) })
	b := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(keys)))
	var names []byte
	at := make(map[string]uint32)
	for _, k := range keys {
		name := entries[k]
		if _, ok := at[name]; !ok {
			at[name] = uint32(len(names))
			names = append(append(names, byte(len(name))), name...)
		}
		b = binary.BigEndian.AppendUint32(append(b, k[:]...), at[name])
	}
	return append(b, names...), nil
}

// forms are words for what kind of company one is, which say nothing about its devices.
var forms = map[string]bool{
	"inc": true, "llc": true, "ltd": true, "limited": true, "co": true, "corp": true, "corporation": true, "gmbh": true, "ag": true, "sa": true,
	"bv": true, "kg": true, "plc": true, "oy": true, "ab": true, "srl": true, "spa": true, "company": true, "as": true, "pty": true,
}

// short makes a company's name plain ASCII, without what kind of company it is.
func short(name string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(name, "?"), func(r rune) bool { return r == ' ' || r == '\u00a0' || r == '\t' })
	for len(words) > 1 {
		last := strings.ToLower(strings.NewReplacer(".", "", ",", "").Replace(words[len(words)-1]))
		// Several in one word, as in "Co.,Ltd.", are one of them run together.
		if !forms[last] && !forms[strings.TrimPrefix(last, "co")] {
			break
		}
		words = words[:len(words)-1]
	}
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimRight(strings.Join(words, " "), ",. "))
	return s[:min(len(s), maxName)]
}
