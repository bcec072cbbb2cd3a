package conf

import (
	"fmt"

	"bulkhead/netcfg/diag"
)

// maxProblems bounds how many errors, and how many warnings, a file can report:
// far more than anybody reads, and far less than a file of nothing but mistakes has.
const maxProblems = 500

// problems collects what is wrong with a file.
type problems struct {
	found            diag.List
	errors, warnings int

	lenient bool         // a secret in plain text is a warning
	hushed  map[int]bool // lines of which no more may be said, and whether there was more
}

func (p *problems) add(pos diag.Pos, key, msg, hint string) {
	if _, hushed := p.hushed[pos.Line]; hushed {
		p.unsaid(pos)
		return
	}
	if p.errors++; p.errors <= maxProblems {
		p.found.Add(pos, key, msg, hint)
	}
}

func (p *problems) warn(pos diag.Pos, key, msg, hint string) {
	if _, hushed := p.hushed[pos.Line]; hushed {
		return
	}
	if p.warnings++; p.warnings <= maxProblems {
		p.found.Warn(pos, key, msg, hint)
	}
}

// list returns the problems in file order, and behind them how many there was no
// room for.
func (p *problems) list(file string) diag.List {
	out := p.found.Sorted()
	if rest := p.errors + p.warnings - len(out); rest > 0 {
		out.Warn(diag.Pos{File: file}, "", fmt.Sprintf("%d more problems are not shown", rest), "mend these first")
	}
	return out
}
