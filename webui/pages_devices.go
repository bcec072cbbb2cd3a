//go:build linux

package webui

// devicePages are about the machines in the network.
var devicePages = []page{}
