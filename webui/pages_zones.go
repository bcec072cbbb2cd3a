//go:build linux

package webui

// zonePages are about what zones may reach, and why.
var zonePages = []page{}
