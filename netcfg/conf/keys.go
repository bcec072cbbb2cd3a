package conf

// key is one key that a mapping of the language may have.
type key struct {
	name     string
	required bool
}

// tables lists the keys of every mapping of the language, by where it stands; a
// star stands for a name that the author chooses. The JSON Schema is tested
// against it, so that editors and parser know the same language.
var tables = map[string][]key{
	"": {
		{name: "system"}, {"ports", true}, {name: "internet"}, {name: "resolvers"}, {"zones", true},
		{name: "devices"}, {name: "groups"}, {name: "protocols"},
		{name: "allow"}, {name: "block"}, {name: "forwards"}, {name: "tests"},
		{name: "flows"}, {name: "export"}, {name: "alerts"},
	},
	"export.*":       {{"format", true}, {"to", true}, {name: "at"}, {name: "ca"}, {name: "token"}, {name: "send"}},
	"export.*.token": {{"secret", true}},
	"alerts.*": {
		{"by", true}, {"to", true}, {name: "at"}, {name: "ca"}, {name: "token"}, {name: "path"},
		{name: "user"}, {name: "password"}, {name: "from"}, {name: "recipients"},
		{name: "events"}, {name: "again"}, {name: "limit"}, {name: "quiet"},
	},
	"alerts.*.token":    {{"secret", true}},
	"alerts.*.path":     {{"secret", true}},
	"alerts.*.password": {{"secret", true}},
	"flows":             {{name: "keep"}, {name: "size"}},
	"system":            {{name: "name"}, {name: "domain"}, {name: "timezone"}, {name: "updates"}, {name: "admin"}, {name: "config"}},
	"system.updates":    {{name: "gokrazy"}},
	"system.admin":      {{name: "client-certificates"}},
	"system.config":     {{"push", true}, {"key", true}, {"known-host", true}},
	"system.config.key": {{"secret", true}},
	"ports.*":           {{"mac", true}},
	"internet":          {{"port", true}, {name: "vlan"}, {name: "ipv4"}, {name: "ipv6"}},
	"internet.ipv4":     {{"address", true}, {"gateway", true}, {name: "resolvers"}},
	"internet.ipv6":     {{"address", true}, {"gateway", true}, {name: "resolvers"}},
	"resolvers[]":       {{"secret", true}},
	"zones.*": {
		{"port", true}, {name: "vlan"}, {"subnet", true}, {name: "gateway"}, {name: "admin"},
		{name: "ping"}, {name: "ipv6"}, {name: "dhcp"}, {name: "dns"},
		{name: "flows"}, {name: "mode"}, {name: "observe-until"},
	},
	"zones.*.dhcp": {{name: "pool"}, {name: "lease"}, {name: "ntp"}},
	"zones.*.dns":  {{name: "block"}, {name: "force"}},
	"devices.*": {
		{"zone", true}, {"mac", true}, {name: "address"}, {name: "owner"}, {name: "purpose"}, {name: "note"}, {name: "critical"},
	},
	"allow[]": {
		{"name", true}, {"from", true}, {"to", true}, {"protocols", true}, {"why", true}, {name: "owner"}, {name: "expires"},
	},
	"block[]": {
		{"name", true}, {"from", true}, {"to", true}, {name: "protocols"}, {"why", true}, {name: "owner"}, {name: "expires"},
	},
	"forwards[]": {
		{"name", true}, {"protocols", true}, {"to", true}, {"owner", true}, {"why", true}, {"expires", true},
	},
	"tests[]": {{"from", true}, {"to", true}, {"protocols", true}, {"expect", true}},
}
