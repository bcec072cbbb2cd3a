//go:build linux

package lookout

// What tests do in place of time and the kernel.
var (
	Hear             = (*Lookout).hear
	Step             = (*Lookout).step
	LookAtNeighbours = (*Lookout).lookAtNeighbours
)

// Country is where the program takes an address to be.
var Country = country
