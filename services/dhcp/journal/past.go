package journal

import (
	"fmt"
	"iter"
	"path/filepath"

	"bulkhead/services/dhcp/history"
)

// maxPast bounds what is read of a history, in bytes: more than one can have.
const maxPast = history.Devices * history.PerDevice * (headerLen + maxPayload)

// LoadHistory calls each for every spell of the history in dir and returns how many
// bytes of it are none. There is no error if there is no history yet.
func LoadHistory(dir string, each func(history.Spell)) (bad int, err error) {
	data, err := read(filepath.Join(dir, pastName), maxPast)
	if err != nil {
		return 0, err
	}
	damage := scan(data, pastMagic, readPast, each)
	return damage.Middle + damage.Tail, nil
}

// ReplaceHistory makes spells the whole of the history in dir. When it returns nil they
// are on the disk; after an error the disk has either them or the history as it was.
// [File.Replace] comes after it, since it takes away what the spells were made of.
func ReplaceHistory(dir string, spells iter.Seq[history.Spell]) error {
	var records []byte
	for s := range spells {
		records = appendPast(records, s)
	}
	path := filepath.Join(dir, pastName)
	if err := replace(path, pastMagic, records); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}
