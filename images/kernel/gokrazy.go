package kernel

// GokrazyModule is the module path of a kernel's folder. The name cannot be resolved
// (RFC 2606, section 2): whoever builds with gok points it at the folder.
const GokrazyModule = "bulkhead.invalid/kernel"

// gokrazyFiles returns what makes of a folder with a vmlinuz a kernel package for
// gok: it looks for one by "go list", copies vmlinuz and cmdline.txt to the boot
// partition, adds the console and replaces root=/dev/sda2, and wants a config.txt,
// which is the Raspberry Pi's boot loader's. There is no lib/modules: there are no
// modules.
func (a Arch) gokrazyFiles() map[string]string {
	return map[string]string{
		"go.mod": "module " + GokrazyModule + "\n",
		"kernel.go": "// Package kernel is a Linux kernel for gokrazy: the files beside this one.\n" +
			"package kernel\n",
		"cmdline.txt": "root=/dev/sda2 ro init=/gokrazy/init panic=10 oops=panic rootwait\n",
		"config.txt":  "\n",
	}
}
