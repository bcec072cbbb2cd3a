package conf

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

// The names in the database that time/tzdata has built in, which does not tell them.
// The tests keep the list equal to it; run them with -update for a new Go.
//
//go:embed timezones.txt
var timezones string

// zoneNames maps every name of a time zone, and every last part of one (berlin), in
// the form in which names are compared, to the name as it is written.
var zoneNames = sync.OnceValues(func() (names map[string]string, keys []string) {
	names = make(map[string]string)
	add := func(key, name string) {
		if names[key] == "" {
			names[key] = name
			keys = append(keys, key)
		}
	}
	all := strings.Fields(timezones)
	for _, name := range all {
		add(zoneKey(name), name)
	}
	for _, name := range all {
		add(zoneKey(name[strings.LastIndexByte(name, '/')+1:]), name)
	}
	return names, keys
})

func zoneKey(s string) string {
	return strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(s))
}

// zoneHint says what time zone was probably meant.
func zoneHint(word string) string {
	const form = "write a name of the IANA time zone database, such as Europe/Berlin or UTC"
	if len(word) > 64 {
		return form
	}
	names, keys := zoneNames()
	key := zoneKey(word)
	name := names[key]
	if city := key[strings.LastIndexByte(key, '/')+1:]; name == "" && len(city) > 3 {
		name = names[city] // on another continent
	}
	if name == "" {
		name = names[nearest(key, keys)]
	}
	if name == "" {
		return form
	}
	return fmt.Sprintf("did you mean %q?", name)
}
