package kernel

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
)

// maxConfig bounds what is unpacked, in bytes; a configuration has about 200,000.
const maxConfig = 4 << 20

// Running returns the configuration of the running kernel, from /proc/config.gz. The
// error wraps [fs.ErrNotExist] if the kernel does not show it.
func Running() (Config, error) {
	f, err := os.Open("/proc/config.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", f.Name(), err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", f.Name(), err)
	}
	return ParseConfig(string(text)), nil
}
