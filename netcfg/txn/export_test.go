package txn

// Disk is the seam that tests cut the power at.
type Disk = disk

// NewStore opens a store on a disk of the test's.
func NewStore(d Disk) (*Store, error) { return newStore(d) }

// Directory is the disk that [Open] uses.
func Directory(path string) (Disk, error) { return openDirectory(path) }
