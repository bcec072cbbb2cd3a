package record

import "time"

// StoreStats is what a store has counted since the start, and how it is.
type StoreStats struct {
	Appended uint64 `json:"appended"` // records
	Lost     uint64 `json:"lost"`     // records for which there was no room
	Dropped  uint64 `json:"dropped"`  // segments that retention took away
	Damaged  uint64 `json:"damaged"`  // files that were set aside
	Syncs    uint64 `json:"syncs"`    // of files and directories
	Written  uint64 `json:"written"`  // bytes, to all files

	Segments int       `json:"segments"`
	Bytes    int64     `json:"bytes"`   // of segments
	Memory   int       `json:"memory"`  // records that are in no segment yet
	Oldest   time.Time `json:"oldest"`  // end of a record, at most; zero if there are no segments
	Trouble  string    `json:"trouble"` // why the last attempt to write failed; "" if it did not
}

// TrackStats is what was counted since the start on the way from the kernel to records.
type TrackStats struct {
	Open     int    `json:"open"`     // connections
	Ended    uint64 `json:"ended"`    // connections
	Unmarked uint64 `json:"unmarked"` // of them, those that no rule let in: the box with itself
	Unseen   uint64 `json:"unseen"`   // of them, those whose beginning was not seen
	Vanished uint64 `json:"vanished"` // connections whose end was lost
	Resyncs  uint64 `json:"resyncs"`
	Refused  uint64 `json:"refused"` // packets
	Crowded  uint64 `json:"crowded"` // connections that there was no room to follow
}
