//go:build linux

package webui

import (
	"cmp"
	"encoding/json"
	"runtime/debug"
	"slices"

	"bulkhead/services/file"
	"bulkhead/services/update/manifest"
)

// imageIn returns what a file says of the image, or nothing outside of one.
func imageIn(path string) (image manifest.Info) {
	data, err := file.Read(path, 64<<10)
	if err == nil {
		_ = json.Unmarshal(data, &image) // no version then: it is only shown
	}
	return image
}

// maxBill bounds a bill of materials, in bytes.
const maxBill = 16 << 20

// bill is a bill of materials: what is in the image, as its builder has found it.
type bill struct {
	Programs []struct {
		Path, Package, Go string
		Modules           []billModule
	}
	Kernel struct{ Version, Source, Compiler string }
	Debian []struct{ Name, Version string }
}

type billModule struct{ Path, Version, Sum string }

// billIn reads a bill of materials. Outside of an image there is none, and this program
// alone is on it.
func billIn(path string) (b bill, whole bool) {
	if data, err := file.Read(path, maxBill); err == nil {
		var outer struct {
			SBOM bill `json:"sbom"`
		}
		if json.Unmarshal(data, &outer) == nil {
			return outer.SBOM, true
		}
	}
	if me, ok := debug.ReadBuildInfo(); ok {
		b.Programs = append(b.Programs, struct {
			Path, Package, Go string
			Modules           []billModule
		}{"webuid", me.Path, me.GoVersion, nil})
		for _, m := range me.Deps {
			b.Programs[0].Modules = append(b.Programs[0].Modules, billModule{m.Path, m.Version, m.Sum})
		}
	}
	return b, false
}

// module is one that programs were built with.
type module struct {
	billModule
	Programs int // that have it
}

// modules are those of all programs, each once.
func (b *bill) modules() (list []module) {
	of := map[billModule]int{}
	for _, p := range b.Programs {
		for _, m := range p.Modules {
			of[m]++
		}
	}
	for m, n := range of {
		list = append(list, module{m, n})
	}
	slices.SortFunc(list, func(a, b module) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Sum, b.Sum))
	})
	return list
}
