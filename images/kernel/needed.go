package kernel

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed needed.txt
var neededText string

// Need is an option that the product relies on being on, or off, or of a value.
type Need struct {
	Option string
	Off    bool
	Value  string // as it is written; "": it is on or off
	Arch   string // on this architecture only; "" on all
	Why    string
}

// Needs returns what the product relies on, in the order of needed.txt.
func Needs() ([]Need, error) { return parseNeeds(neededText) }

// parseNeeds reads lines of the form "[!]OPTION[=value][@arch] why".
func parseNeeds(text string) ([]Need, error) {
	var needs []Need
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		option, why, _ := strings.Cut(line, " ")
		n := Need{Why: strings.TrimSpace(why)}
		option, n.Off = strings.CutPrefix(option, "!")
		option, n.Arch, _ = strings.Cut(option, "@")
		n.Option, n.Value, _ = strings.Cut(option, "=")
		if n.Option == "" || n.Why == "" || n.Off && n.Value != "" {
			return nil, fmt.Errorf("needed.txt:%d: want an option and why it is needed, got %q", number, line)
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// Missing returns a sentence for each need that a configuration does not meet.
func Missing(needs []Need, arch string, c Config) []string {
	var missing []string
	for _, n := range needs {
		switch {
		case n.Arch != "" && n.Arch != arch:
		case n.Off && c.Get(n.Option) != "n":
			missing = append(missing, fmt.Sprintf("CONFIG_%s is %s and must be off: %s", n.Option, c.Get(n.Option), n.Why))
		case n.Value != "":
			if got := c.Get(n.Option); got != n.Value {
				missing = append(missing, fmt.Sprintf("CONFIG_%s is %s and must be %s: %s", n.Option, got, n.Value, n.Why))
			}
		case !n.Off && !c.On(n.Option):
			missing = append(missing, fmt.Sprintf("CONFIG_%s is %s and must be on: %s", n.Option, c.Get(n.Option), n.Why))
		}
	}
	return missing
}
