package kernel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Check holds a configuration that the kernel's tools made against what was asked of
// it, and against what the product needs. The error names every option that differs
// and what keeps it from its value.
func Check(arch string, wanted, got Config, options *Kconfig) error {
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if _, known := options.depends[name]; !known && wanted[name] == "n" {
			// Off all right, but perhaps misspelt, with another one still on.
			problems = append(problems, options.Explain(name, "n", got))
		}
	}
	for _, name := range wanted.Lost(got) {
		problems = append(problems, options.Explain(name, wanted[name], got))
	}
	needs, err := Needs()
	if err != nil {
		return err
	}
	problems = append(problems, Missing(needs, arch, got)...)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("the configuration is not what was asked for:\n\t%s", strings.Join(problems, "\n\t"))
}
