//go:build linux

package webui

// systemPages are about the box itself.
var systemPages = []page{}
