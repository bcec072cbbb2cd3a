// Package backup is what a backup holds, and the form that it has: a tar archive, which
// its owner can read with ordinary tools once it is decrypted.
//
// It opens no files, and neither encrypts nor decrypts: in the clear, an archive has the
// secrets of a box in it, and whoever makes one answers for where it goes. It does not
// know what the parts mean that only their owners read.
package backup

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Version is that of archives which this program writes, and the newest that it reads.
// It grows when a program that does not know what is new could not restore a box. What
// can be done without, such as a prefix that the box would choose anew, comes as another
// file, which older programs pass over: see [Backup.Others].
const Version = 1

// Limits, in bytes. All of a backup fits into memory, and into one answer of the API.
const (
	MaxArchive = 16 << 20
	MaxHistory = 8 << 20
	MaxLeases  = 2 << 20 // 6,000 of them
)

// Backup is what is kept of a box. Nothing in it is checked but its form.
type Backup struct {
	Manifest
	Config  []byte                // the confirmed file, as its author wrote it
	Secrets []byte                // as package secrets exports them
	Devices map[string]netip.Addr // addresses given to devices for which the file has none
	Leases  []svcconf.Lease       // in force
	Keys    []UpdateKey           // public keys whose images the box runs, the first one first
	History []Change              // without gaps, ascending
	Others  []string              // files of the archive that this program does not know
	// Isolated are the machines that are kept from everybody, as netcfgd keeps them.
	Isolated []byte
}

// Manifest says what a backup is of.
type Manifest struct {
	Format  string            `json:"format"` // always the same
	Version int               `json:"version"`
	Time    time.Time         `json:"time"`              // by the box's clock
	Box     string            `json:"box"`               // its name
	File    string            `json:"file"`              // name of the configuration, as its author calls it
	Ports   []Port            `json:"ports"`             // of the box, in the order in which it finds them
	LeftOut []string          `json:"leftOut,omitempty"` // what there was no room for, in words
	Sums    map[string]string `json:"sha256"`            // of each other file, hexadecimal
}

// Port is a network port of the box that was backed up.
type Port struct {
	Name string    `json:"name"` // in the kernel
	MAC  model.MAC `json:"mac"`
}

// UpdateKey is a key that the box trusts to sign images.
type UpdateKey struct {
	Name string `json:"name"`
	Key  string `json:"key"` // in one word, as package manifest prints it
}

// Change is a change of the history, as package txn seals it.
type Change struct {
	Number int
	Data   []byte
}
