package txn

import "slices"

// Disk is the seam that tests cut the power at.
type Disk = disk

// NewStore opens a store on a disk of the test's.
func NewStore(d Disk) (*Store, error) {
	s := &Store{disk: d}
	return s, s.Settle()
}

// Directory is the disk that [Open] uses.
func Directory(path string) Disk { return directory{path} }

// History returns all changes that can be read, newest first.
func (s *Store) History() []Entry { return slices.Collect(s.Entries()) }
