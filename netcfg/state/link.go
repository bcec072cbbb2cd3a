package state

import "strings"

// AdminSuffix ends the alias of a link over which the box is managed: that of an
// admin zone, and of the port that carries one. With it, whoever plans a change can
// tell which steps may cut their author off, also for links of an older configuration.
const AdminSuffix = ", admin"

// Alias makes the alias of a managed link: Alias("zone iot", false) is
// "bulkhead:zone iot".
func Alias(purpose string, admin bool) string {
	if admin {
		purpose += AdminSuffix
	}
	return AliasPrefix + purpose
}

// Managed reports whether the link carries Bulkhead's mark.
func (l Link) Managed() bool { return strings.HasPrefix(l.Alias, AliasPrefix) }

// Admin reports whether the box is managed over the link.
func (l Link) Admin() bool { return l.Managed() && strings.HasSuffix(l.Alias, AdminSuffix) }

// Purpose says what a managed link is for: "zone iot". It is "" for other links.
func (l Link) Purpose() string {
	if !l.Managed() {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(l.Alias, AliasPrefix), AdminSuffix)
}

// Present reports whether there is a table at all, whoever wrote what is in it.
func (r Ruleset) Present() bool { return r.Digest != "" || r.Foreign }

// Known reports whether the content of the table is at hand, and not only what it
// is called. It is not after a restart, after a way through JSON, and if somebody
// else wrote to the table.
func (r Ruleset) Known() bool {
	return r.Table != nil && r.Digest != "" && !r.Foreign && r.Table.Digest() == r.Digest
}
