package edit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
)

// Device is an entry of devices, as it is written. What is empty is not in the file.
// With an address, it is also what DHCP reserves, and what the device's name stands for.
type Device struct {
	Name, Zone, MAC string
	Address         string // "": out of the zone's pool
	Owner, Purpose  string
	Note            string
	Critical        bool
}

// DeviceOf is a device as it is written.
func DeviceOf(d *model.Device) Device {
	dev := Device{Name: d.Name, Zone: d.Zone.Name, MAC: d.MAC.String(), Owner: d.Owner, Purpose: d.Purpose, Note: d.Note, Critical: d.Critical}
	if d.Address.IsValid() {
		dev.Address = d.Address.String()
	}
	return dev
}

func (d Device) keys() []key {
	return []key{
		{"zone", words(d.Zone)}, {"mac", words(d.MAC)}, {"address", words(d.Address)},
		{"owner", words(d.Owner)}, {"purpose", words(d.Purpose)}, {"note", words(d.Note)}, {"critical", truth(d.Critical, false)},
	}
}

// AddDevice puts a device at the end of the inventory.
func AddDevice(d Device) Edit { return addMember("devices", d.Name, d.keys()) }

// SetDevice has the device of a name say what d says. If it gets another name, rules,
// groups and everything else that named it name it by that.
func SetDevice(name string, d Device) Edit {
	e := present("devices", "device", name, setKeys([]string{"devices", name}, d.keys()...))
	if d.Name == name {
		return e
	}
	return join(e, RenameDevice(name, d.Name))
}

// join makes one edit of two.
func join(a, b Edit) Edit {
	return Edit{append(slices.Clone(a.steps), b.steps...), func(list []leaf) []leaf { return b.means(a.means(list)) }}
}

// SetDeviceKey gives one key of a device a value, or takes it away if that is "": zone,
// mac, address, owner, purpose or note.
func SetDeviceKey(name, k, v string) Edit {
	keys := Device{}.keys()
	i := slices.IndexFunc(keys, func(have key) bool { return have.name == k && !have.plain })
	if i < 0 {
		return failing(fmt.Errorf("devices have no text %q", k))
	}
	return present("devices", "device", name, setOne([]string{"devices", name}, keys, key{k, words(v)}))
}

// setOne sets one of some keys, which say where it comes if it is not there yet.
func setOne(path []string, order []key, k key) Edit {
	i := slices.IndexFunc(order, func(o key) bool { return o.name == k.name })
	return Edit{[]step{setKey(path, k, order[:i])}, setKeys(path, k).means}
}

func failing(err error) Edit {
	return Edit{[]step{func(*doc) ([]splice, error) { return nil, err }}, func(list []leaf) []leaf { return list }}
}

// RemoveDevice takes a device out of the inventory. It fails while something names it.
func RemoveDevice(name string) Edit {
	e := removeMember("devices", "device", name)
	e.steps = append([]step{func(d *doc) ([]splice, error) {
		if by := d.users(name); len(by) > 0 {
			return nil, fmt.Errorf("device %q is still named by %s: change these first", name, strings.Join(by, ", "))
		}
		return nil, nil
	}}, e.steps...)
	return e
}

// users are the entries of a file that name a device.
func (d *doc) users(name string) (list []string) {
	d.walk(func(path string, n *conf.Node) {
		if _, ok := reference(path, n.Text, name, name); !ok {
			return
		}
		parts := strings.SplitN(path, sep, 3)
		by := parts[0] + "." + parts[1]
		if strings.HasPrefix(parts[1], "#") {
			by = fmt.Sprintf("%s (line %d)", parts[0], 1+strings.Count(d.text[:n.From], "\n"))
		}
		if !slices.Contains(list, by) {
			list = append(list, by)
		}
	})
	return list
}

// RenameDevice gives a device another name, and has everything that named it name it by that.
func RenameDevice(name, newName string) Edit {
	e := Edit{
		steps: []step{func(d *doc) ([]splice, error) {
			if err := words(newName).check("devices." + name); err != nil || name == newName {
				return nil, err
			}
			return d.renameDevice(name, newName), nil
		}},
		means: func(list []leaf) []leaf {
			list = slices.Clone(list)
			for i, l := range list {
				if old := pathOf("devices", name); l.under(old) {
					list[i].path = pathOf("devices", newName) + l.path[len(old):]
				} else if text, ok := reference(l.path, l.text, name, newName); ok {
					list[i].text, list[i].kind = text, conf.Text
				}
			}
			return list
		},
	}
	return present("devices", "device", name, e)
}

func (d *doc) renameDevice(name, newName string) (list []splice) {
	devices := d.root.Get("devices")
	for _, e := range devices.Keys {
		if e.Key.Text != name {
			continue
		}
		text := quote(newName, devices.Flow)
		list = append(list, splice{e.Key.From, e.Key.To, text})
		if gap := e.Value.From - e.Key.To - len(":"); d.columned(devices) >= 0 { // what follows stays in its column
			list = append(list, splice{e.Key.To + len(":"), e.Value.From, strings.Repeat(" ", max(1, gap+e.Key.To-e.Key.From-len(text)))})
		}
	}
	d.walk(func(path string, n *conf.Node) {
		text, ok := reference(path, n.Text, name, newName)
		if !ok {
			return
		}
		old := d.text[n.From:n.To]
		switch {
		case !bare(newName, true): // which conf will not take
			text = quote(text, true)
		case old != n.Text:
			text = old[:1] + text + old[:1]
		}
		list = append(list, splice{n.From, n.To, text})
	})
	return list
}

// host is the address of something that the box sends to, in its parts.
var host = regexp.MustCompile(`^([a-z]+://(?:[^@/]*@)?)([A-Za-z0-9.-]+)(.*)$`)

// reference reports whether a word that stands at a path names a device, and returns the
// word with another name in its place.
func reference(path, word, name, newName string) (string, bool) {
	at := strings.Split(path, sep)
	key := at[len(at)-1]
	if strings.HasPrefix(key, "#") && len(at) > 1 {
		key = at[len(at)-2]
	}
	switch at[0] {
	case "groups":
		return newName, word == name
	case "allow", "block", "tests", "forwards":
		return newName, word == name && (key == "from" || key == "to")
	case "export", "alerts":
		if key == "at" {
			return newName, word == name
		}
		if key != "to" {
			return "", false
		}
	case "system":
		if key != "push" {
			return "", false
		}
	default:
		return "", false
	}
	m := host.FindStringSubmatch(word)
	if m == nil || m[2] != name {
		return "", false
	}
	return m[1] + newName + m[3], true
}
