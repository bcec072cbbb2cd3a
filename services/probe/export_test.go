//go:build linux

package probe

var (
	ReadQuestion = readQuestion
	AppendField  = appendField
)

const (
	MaxZone    = maxZone
	MaxMessage = maxMessage
)
