// Package conf reads Bulkhead's configuration language: the bytes of one YAML file
// become a model.Config, or a list of everything that is wrong with them, each
// problem with line, column and what to do about it.
//
// The package is strict. Unknown keys, repeated keys and names without meaning are
// errors, because a door that somebody believes closed is worse than a file that is
// refused. It reports all problems of a file at once, and one mistake as one problem.
//
// It never opens files, except for the time zone database where the system has one
// (a copy is built in), never asks the network or the kernel, and keeps no clock: the
// caller says what time it is. It does not decide what the policy means.
package conf

import (
	"slices"
	"time"

	_ "time/tzdata" // the box has no time zone database

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

// Parse reads a configuration file of at most 1 MiB. File is its name, for messages
// only; now decides which rules have expired.
//
// The list holds errors and warnings in file order. The configuration is nil exactly
// if the list holds an error.
func Parse(file string, data []byte, now time.Time) (*model.Config, diag.List) {
	return parse(file, data, now, &problems{})
}

// ParseConfirmed reads a file that was in force already. It is [Parse], but for secrets
// in plain text: finding one is guesswork that gets better with time, and a box must
// not close because it has learnt something new. They are warnings here.
func ParseConfirmed(file string, data []byte, now time.Time) (*model.Config, diag.List) {
	return parse(file, data, now, &problems{lenient: true})
}

func parse(file string, data []byte, now time.Time, ps *problems) (*model.Config, diag.List) {
	d := &decoder{
		file: file, now: now, ps: ps, cfg: &model.Config{},
		near:      suggester{left: maxComparisons},
		unknowns:  make(map[string]*unknown),
		ports:     make(map[string]*port),
		endpoints: make(map[string]*endpoint),
		protocols: make(map[string][]model.Service),
		words:     make(map[string][]model.Service),
		rules:     make(map[string]diag.Pos),
		byAddress: make(map[addrKey]*model.Device),
	}
	ps.plain(file, data[:min(len(data), maxBytes)])
	var root *node
	if root, d.broken = read(file, data, ps); root != nil {
		d.decode(root)
	}
	if ps.errors > 0 {
		return nil, ps.list(file)
	}
	return d.cfg, ps.list(file)
}

// lost marks sections as broken that are missing and should not be, or that may stand
// under a top-level key that could not be read. What was declared there is unknown
// then, and only the one problem is worth telling.
func (d *decoder) lost(root *node, f *fields) {
	known := func(name string) bool {
		return slices.ContainsFunc(tables[""], func(k key) bool { return k.name == name })
	}
	unread := false
	for i, e := range root.keys {
		if !known(e.key.text) {
			unread = true
			if i > 0 { // the key may be an entry of the section before it
				d.broken[root.keys[i-1].key.text] = true
			}
		}
	}
	for name := range d.broken {
		unread = unread || !known(name)
	}
	for _, k := range tables[""] {
		if (unread || k.required) && !f.has(k.name) {
			d.broken[k.name] = true
		}
	}
}

// decode fills the model. Sections are read in the order in which they lean on each
// other, whatever their order in the file.
func (d *decoder) decode(root *node) {
	f := d.fields(root, root, "", "")
	if f == nil {
		return
	}
	d.lost(root, f)
	d.system(f.get("system"))
	d.flows(f.get("flows"))
	d.readPorts(f)
	d.readUplink(f.get("internet"), f.key("internet"))
	d.readZones(f)
	d.checkUse()
	d.checkSubnets()
	d.resolvers(f.get("resolvers"))
	d.devices(f.get("devices"))
	d.push(d.config)
	d.exports(f.get("export"))
	d.alerts(f.get("alerts"))
	d.groups(f.get("groups"))
	d.readProtocols(f.get("protocols"))
	d.allow(f.get("allow"))
	d.block(f.get("block"))
	d.forwards(f.get("forwards"))
	d.tests(f.get("tests"))
	d.tellUnknown()
}
