package kernel

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Config is a kernel configuration: the value of each option as it is written, by
// name without "CONFIG_". An option that is switched off has the value "n" or is
// not in the map; the two mean the same.
type Config map[string]string

var (
	setLine   = regexp.MustCompile(`^CONFIG_([A-Za-z0-9_]+)=(\S.*)$`)
	unsetLine = regexp.MustCompile(`^# CONFIG_([A-Za-z0-9_]+) is not set$`)
	fitting   = regexp.MustCompile(`^(y|m|n|-?[0-9]+|0[xX][0-9a-fA-F]+|"([^"\\]|\\.)*")$`)
)

// ParseConfig reads a .config, a defconfig or /proc/config.gz, unpacked. Lines that
// set nothing are comments; of an option that is set twice the last counts, as it
// does for the kernel's tools.
func ParseConfig(text string) Config {
	c := Config{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if m := setLine.FindStringSubmatch(line); m != nil {
			c[m[1]] = m[2]
		} else if m := unsetLine.FindStringSubmatch(line); m != nil {
			c[m[1]] = "n"
		}
	}
	return c
}

// ParseFragment reads a fragment written by hand, and is strict where [ParseConfig]
// is not: an option that is set twice, a value that cannot be one and a line that is
// neither setting nor comment are errors, of the form file:line: what.
func ParseFragment(file, text string) (Config, error) {
	c := Config{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		name, value := "", ""
		if m := setLine.FindStringSubmatch(line); m != nil {
			name, value = m[1], m[2]
		} else if m := unsetLine.FindStringSubmatch(line); m != nil {
			name, value = m[1], "n"
		} else if line == "" || strings.HasPrefix(line, "#") && !strings.Contains(line, "CONFIG_") {
			continue
		}
		switch _, twice := c[name]; {
		case name == "":
			return nil, fmt.Errorf("%s:%d: neither a setting nor a comment: %q", file, number, line)
		case twice:
			return nil, fmt.Errorf("%s:%d: CONFIG_%s is set twice", file, number, name)
		case !fitting.MatchString(value):
			return nil, fmt.Errorf("%s:%d: CONFIG_%s cannot be %s", file, number, name, value)
		case value == "m":
			return nil, fmt.Errorf("%s:%d: CONFIG_%s cannot be a module: there are none", file, number, name)
		}
		c[name] = value
	}
	return c, nil
}

// Get returns the value of an option, "n" if it is off.
func (c Config) Get(name string) string {
	if v, ok := c[name]; ok {
		return v
	}
	return "n"
}

// On reports whether an option is built in.
func (c Config) On(name string) bool { return c.Get(name) == "y" }

// With returns the options of c, with those of over in place of its own.
func (c Config) With(over Config) Config {
	sum := maps.Clone(c)
	maps.Copy(sum, over)
	return sum
}

// WithoutModules returns the options of c without those that would be modules. A
// kernel that has no modules would build them in, and with them half of the world's
// hardware.
func (c Config) WithoutModules() Config {
	rest := maps.Clone(c)
	maps.DeleteFunc(rest, func(_, value string) bool { return value == "m" })
	return rest
}

// String returns the configuration as the kernel's tools read it, sorted by name.
func (c Config) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] == "n" {
			fmt.Fprintf(&b, "# CONFIG_%s is not set\n", name)
		} else {
			fmt.Fprintf(&b, "CONFIG_%s=%s\n", name, c[name])
		}
	}
	return b.String()
}

// Overlay returns the text of a configuration with the options of c, and those of
// over in place of its own. They come last: where options exclude each other, as the
// speeds of a timer do, the kernel's tools take the last one that is on.
func (c Config) Overlay(over Config) string {
	rest := maps.Clone(c)
	maps.DeleteFunc(rest, func(name, _ string) bool { _, ok := over[name]; return ok })
	return rest.String() + over.String()
}

// Lost returns the names of the options that have another value in got, sorted.
func (c Config) Lost(got Config) []string {
	var lost []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if got.Get(name) != c[name] {
			lost = append(lost, name)
		}
	}
	return lost
}
