//go:build linux

package webui

// reportPages are what is written about the network as a whole.
var reportPages = []page{}
