//go:build linux

package webui

// configPages are lists of what the file says, and forms that edit it.
var configPages = []page{}
