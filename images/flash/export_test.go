//go:build linux

package flash

// System is a machine that a test made up.
type System struct{ s system }

func NewSystem(sys, proc string, number func(string) (uint64, error)) System {
	return System{system{sys, proc, number}}
}

func (s System) Look(path string, imageBytes int64) (Target, error) {
	return s.s.look(path, imageBytes)
}
