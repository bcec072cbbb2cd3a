//go:build linux

package webui

// flowPages are about who spoke with whom.
var flowPages = []page{}
