package api

import (
	"strings"

	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/textdiff"
)

// MaxRulesetLines is how many lines of a [RulesetDiff] are told.
const MaxRulesetLines = 400

// RulesetDiff is how what the packet filter has loaded would become another, as text: a
// difference in the unified format, between tables as "nft list table" prints them.
type RulesetDiff struct {
	Text string `json:"text"`           // "": there is none
	More int    `json:"more,omitempty"` // how many lines follow
}

// RulesetDiffOf compares what two configurations were compiled to. The old one may have
// no table: that of a box that was never set up.
func RulesetDiffOf(c impact.Change) *RulesetDiff {
	old, new := c.Old.State.Ruleset, c.New.State.Ruleset
	if old.Digest == new.Digest {
		return &RulesetDiff{}
	}
	text := textdiff.UnifiedUnder("in force", "proposed", tableText(old.Table), tableText(new.Table), isHeading)
	d := &RulesetDiff{}
	end := 0
	for line := range strings.Lines(text) {
		if d.More++; d.More <= MaxRulesetLines {
			end += len(line)
		}
	}
	d.Text, d.More = text[:end], max(0, d.More-MaxRulesetLines)
	return d
}

func tableText(t *nft.Table) string {
	if t == nil {
		return ""
	}
	return t.String()
}

// isHeading reports whether a line of a printed table begins a chain, a set or the like.
func isHeading(line string) bool {
	return strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "\t\t") && strings.HasSuffix(line, "{\n")
}
