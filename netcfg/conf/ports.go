package conf

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"bulkhead/netcfg/model"
)

// MovePorts returns a configuration file with other MAC addresses for the ports that
// macs names, as it is for a box of other hardware. Everything else stays as it is, byte
// for byte. The file must be one that [ParseConfirmed] takes, before and after.
func MovePorts(file string, data []byte, macs map[string]model.MAC, now time.Time) ([]byte, error) {
	ps := &problems{lenient: true}
	root, _ := read(file, data, ps)
	if root == nil || ps.errors > 0 {
		return nil, ps.list(file).Err()
	}
	type edit struct {
		at       int
		old, new string
	}
	var edits []edit
	left := maps.Clone(macs)
	for _, section := range root.keys {
		if section.key.text != "ports" {
			continue
		}
		for _, port := range section.value.keys {
			mac, ok := left[port.key.text]
			if !ok {
				continue
			}
			for _, f := range port.value.keys {
				if f.key.text != "mac" {
					continue
				}
				at, ok := place(data, f.value)
				if !ok {
					return nil, fmt.Errorf("%s:%d:%d: the MAC address of port %s is not written plainly", file, f.value.line, f.value.col, port.key.text)
				}
				edits = append(edits, edit{at, f.value.text, mac.String()})
				delete(left, port.key.text)
			}
		}
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("%s has no port %s", file, slices.Sorted(maps.Keys(left))[0])
	}
	out := slices.Clone(data)
	slices.SortFunc(edits, func(a, b edit) int { return b.at - a.at }) // from the end: places before it stay
	for _, e := range edits {
		out = slices.Replace(out, e.at, e.at+len(e.old), []byte(e.new)...)
	}
	cfg, list := ParseConfirmed(file, out, now)
	if cfg == nil {
		return nil, list.Err()
	}
	for _, p := range cfg.Ports {
		if mac, ok := macs[p.Name]; ok && p.MAC != mac {
			return nil, fmt.Errorf("%s: the MAC address of port %s cannot be changed", file, p.Name)
		}
	}
	return out, nil
}

// place finds the text of a value in a file, in bytes from its beginning.
func place(data []byte, n *node) (int, bool) {
	at := 0
	if mark := []byte("\ufeff"); bytes.HasPrefix(data, mark) { // no part of the first line
		at = len(mark)
	}
	for range n.line - 1 {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return 0, false
		}
		at += i + 1
	}
	for range n.col - 1 { // counted in characters
		_, size := utf8.DecodeRune(data[at:])
		at += size
	}
	if n.quoted && at < len(data) && (data[at] == '"' || data[at] == '\'') {
		at++
	}
	return at, bytes.HasPrefix(data[min(at, len(data)):], []byte(n.text))
}
