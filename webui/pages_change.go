//go:build linux

package webui

// changePages are about what a change would do, the one that is being tried, and those that were.
var changePages = []page{}
