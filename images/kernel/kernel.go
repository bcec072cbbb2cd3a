// Package kernel makes the Linux kernel of the image: the source of a Debian
// package, a configuration fragment per architecture over the kernel's own
// defconfig, everything built in. What was built once is kept in a cache under a
// key of everything that decides the result, and is not built again.
//
// It changes neither the source nor the cache entries of others, never asks a clock
// for what goes into a kernel, and never lets a line of a fragment fall away
// unnoticed. What the product needs of a kernel stands in needed.txt and is held
// against every configuration that is built and, by a test, against the running
// kernel.
package kernel

import (
	_ "embed"
	"fmt"
	"runtime"
)

// Arch is an architecture that kernels are built for.
type Arch struct {
	Name string // as Go calls it

	kbuild    string // ARCH of the kernel's makefiles
	srcarch   string // folder under arch/
	defconfig string // file under arch/<srcarch>/configs
	image     string // what is made, under arch/<srcarch>/boot
	compiler  string // Debian's prefix of the cross tools
	crossPkg  string // and the package that brings them
	objects   int    // about how many a build compiles, for the estimate of the first
	console   string // the serial port, for the command line
	fragment  string
}

//go:embed common.fragment
var commonFragment string

//go:embed amd64.fragment
var amd64Fragment string

//go:embed arm64.fragment
var arm64Fragment string

var arches = []Arch{{
	Name: "amd64", kbuild: "x86_64", srcarch: "x86", defconfig: "x86_64_defconfig", image: "bzImage",
	compiler: "x86_64-linux-gnu-", crossPkg: "gcc-x86-64-linux-gnu", objects: 2070, console: "ttyS0,115200", fragment: amd64Fragment,
}, {
	// Image and not the smaller vmlinuz.efi: gok refuses what it does not know to
	// be an arm64 kernel, and older QEMUs cannot start it.
	Name: "arm64", kbuild: "arm64", srcarch: "arm64", defconfig: "defconfig", image: "Image",
	compiler: "aarch64-linux-gnu-", crossPkg: "gcc-aarch64-linux-gnu", objects: 2280, console: "ttyAMA0,115200", fragment: arm64Fragment,
}}

// ArchByName returns the architecture that Go calls name.
func ArchByName(name string) (Arch, error) {
	for _, a := range arches {
		if a.Name == name {
			return a, nil
		}
	}
	return Arch{}, fmt.Errorf("no kernel for architecture %q: there are amd64 and arm64", name)
}

// cross returns the prefix of the compiler's tools, "" for this machine's own.
func (a Arch) cross() string {
	if a.Name == runtime.GOARCH {
		return ""
	}
	return a.compiler
}

// Wanted returns the options that the fragments set.
func (a Arch) Wanted() (Config, error) {
	common, err := ParseFragment("common.fragment", commonFragment)
	if err != nil {
		return nil, err
	}
	own, err := ParseFragment(a.Name+".fragment", a.fragment)
	if err != nil {
		return nil, err
	}
	return common.With(own), nil
}

// Console returns the serial port as the kernel's command line names it after
// "console=".
func (a Arch) Console() string { return a.console }
