package gitrepo

// What reads bytes that a disk may have lost, for fuzzing.
var (
	Decode = decode
	Links  = links
)
