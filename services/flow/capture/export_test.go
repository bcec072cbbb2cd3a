//go:build linux

package capture

// OpenEventsWith opens events with a buffer of a size, in bytes.
var OpenEventsWith = openEvents
