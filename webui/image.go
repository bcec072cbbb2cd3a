//go:build linux

package webui

import (
	"encoding/json"

	"bulkhead/services/file"
)

// versionIn returns the version of the image, or "" outside of one.
func versionIn(path string) string {
	data, err := file.Read(path, 64<<10)
	if err != nil {
		return ""
	}
	var image struct {
		Version string `json:"version"`
	}
	_ = json.Unmarshal(data, &image) // no version then: it is only shown
	return image.Version
}
