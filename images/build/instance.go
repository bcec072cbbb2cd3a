package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead/netcfg/strictjson"
)

// Instance is gokrazy's config.json, the fields of it that mean something here. Others
// are refused: people would rely on them.
type Instance struct {
	Hostname string
	Update   *struct {
		NoPassword bool `json:",omitempty"`
	} `json:",omitempty"`

	Packages      []string
	PackageConfig map[string]PackageConfig `json:",omitempty"`

	// SerialConsole is "ttyS0,115200" or "disabled". On arm64, ttyS0 stands for
	// ttyAMA0, the name that the same port has there.
	SerialConsole string `json:",omitempty"`

	// GokrazyPackages are programs of gokrazy itself. nil would mean those that gok
	// takes then, among them a DHCP client.
	GokrazyPackages *[]string `json:",omitempty"`
	KernelPackage   *string   `json:",omitempty"`
	FirmwarePackage *string   `json:",omitempty"`
	EEPROMPackage   *string   `json:",omitempty"`

	MountDevices []MountDevice `json:",omitempty"`
}

// PackageConfig is what an instance says of one program. Keys are import paths.
type PackageConfig struct {
	GoBuildFlags      []string          `json:",omitempty"`
	GoBuildTags       []string          `json:",omitempty"`
	Environment       []string          `json:",omitempty"`
	CommandLineFlags  []string          `json:",omitempty"`
	DontStart         bool              `json:",omitempty"`
	WaitForClock      bool              `json:",omitempty"`
	ExtraFilePaths    map[string]string `json:",omitempty"` // path in the image: file or folder of the host
	ExtraFileContents map[string]string `json:",omitempty"` // path in the image: text
}

// MountDevice is a file system that gokrazy's init mounts besides /perm.
type MountDevice struct{ Source, Type, Target, Options string }

// kernelPackage is the only kernel: stock ones of gokrazy lack what zones need.
const kernelPackage = "bulkhead.invalid/kernel"

// ReadInstance reads the config.json in a folder. The error names everything in it
// that cannot be built.
func ReadInstance(dir string) (Instance, error) {
	file := filepath.Join(dir, "config.json")
	f, err := os.Open(file)
	if err != nil {
		return Instance{}, err
	}
	defer f.Close()
	in, err := strictjson.Decode[Instance](f)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return Instance{}, fmt.Errorf("%s: %w", file, err)
	}
	return in, nil
}

func (in Instance) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validHost(in.Hostname) {
		bad("Hostname %q: want letters, digits and -, at most 63", in.Hostname)
	}
	if in.Update == nil || !in.Update.NoPassword {
		bad("Update.NoPassword must be true: with a password gokrazy's web interface listens on every private address")
	}
	if len(in.Packages) == 0 {
		bad("Packages is empty")
	}
	if in.GokrazyPackages == nil {
		bad("GokrazyPackages must be set, if only to []: otherwise gokrazy's DHCP client runs beside ours")
	}
	if in.KernelPackage == nil || *in.KernelPackage != kernelPackage {
		bad("KernelPackage must be %q: other kernels lack VLANs and more", kernelPackage)
	}
	for name, p := range map[string]*string{"FirmwarePackage": in.FirmwarePackage, "EEPROMPackage": in.EEPROMPackage} {
		if p == nil || *p != "" {
			bad("%s must be \"\": it is for Raspberry Pis without UEFI", name)
		}
	}
	if _, err := in.console(""); err != nil {
		errs = append(errs, err)
	}
	seen := map[string]string{}
	for _, p := range in.programs() {
		if other, ok := seen[p.Path()]; ok {
			bad("packages %s and %s would both be %s", other, p.pkg, p.Path())
		}
		seen[p.Path()] = p.pkg
		if strings.HasSuffix(p.pkg, "...") || path.Clean(p.pkg) != p.pkg {
			bad("package %q: name each one", p.pkg)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(in.PackageConfig)) {
		if !slices.ContainsFunc(in.programs(), func(p program) bool { return p.pkg == pkg }) {
			bad("PackageConfig for %s, which is not in Packages", pkg)
		}
		c := in.PackageConfig[pkg]
		for _, e := range c.Environment {
			if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
				bad("PackageConfig %s: Environment %q: want key=value", pkg, e)
			}
		}
		for _, to := range append(slices.Sorted(maps.Keys(c.ExtraFilePaths)), slices.Sorted(maps.Keys(c.ExtraFileContents))...) {
			if !path.IsAbs(to) || path.Clean(to) != to || to == "/" {
				bad("PackageConfig %s: extra file %q: want an absolute path", pkg, to)
			}
		}
	}
	for _, m := range in.MountDevices {
		if path.Dir(m.Target) != "/mnt" {
			bad("MountDevices: target %q: want a folder in /mnt", m.Target)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func validHost(s string) bool {
	ok := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
	}
	return s != "" && len(s) <= 63 && strings.Trim(s, "-") == s && !strings.ContainsFunc(s, func(r rune) bool { return !ok(r) })
}

// console returns what the kernel is told of the serial port, "" for nothing; own is
// how the port is called on the architecture, with its speed.
func (in Instance) console(own string) (string, error) {
	switch in.SerialConsole {
	case "", "ttyS0,115200", "serial0,115200":
		return own, nil
	case "disabled", "off":
		return "", nil
	}
	name, speed, ok := strings.Cut(in.SerialConsole, ",")
	if !ok || !strings.HasPrefix(name, "tty") || strings.ContainsAny(in.SerialConsole, " \t\n") || speed == "" {
		return "", fmt.Errorf("SerialConsole %q: want a port and its speed, as in ttyS0,115200, or disabled", in.SerialConsole)
	}
	return in.SerialConsole, nil
}

// program is a program of an image.
type program struct {
	pkg string // as the instance names it
	dir string // in the image
	PackageConfig
}

func (p program) name() string { return path.Base(p.pkg) }
func (p program) Path() string { return path.Join(p.dir, p.name()) }

// programs returns the programs in the order in which they are started.
func (in Instance) programs() []program {
	var list []program
	if in.GokrazyPackages != nil {
		for _, pkg := range *in.GokrazyPackages {
			list = append(list, program{pkg, "/gokrazy", in.PackageConfig[pkg]})
		}
	}
	for _, pkg := range in.Packages {
		list = append(list, program{pkg, "/user", in.PackageConfig[pkg]})
	}
	return list
}

// mountDevices is what gokrazy's init reads.
func (in Instance) mountDevices() ([]byte, error) {
	if in.MountDevices == nil {
		in.MountDevices = []MountDevice{}
	}
	return json.Marshal(in.MountDevices)
}
