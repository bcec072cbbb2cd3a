package txn

// Disk is the seam that tests cut the power at.
type Disk = disk

// NewStore opens a store on a disk of the test's.
func NewStore(d Disk) (*Store, error) {
	s := &Store{disk: d}
	return s, s.Settle()
}

// Directory is the disk that [Open] uses.
func Directory(path string) Disk { return directory{path} }
