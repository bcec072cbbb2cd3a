//go:build linux

package webui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:embed static
var static embed.FS

// assets are the files that pages need, by their addresses. An address holds a hash of
// what is there, so that browsers need never ask again, nor show what is old.
var assets, assetPaths = hashAssets()

func hashAssets() (byPath map[string][]byte, paths map[string]string) {
	byPath, paths = map[string][]byte{}, map[string]string{}
	list, err := static.ReadDir("static")
	if err != nil {
		panic(err) // they are in the program
	}
	for _, f := range list {
		data, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		p := "/static/" + hex.EncodeToString(sum[:8]) + "/" + f.Name()
		byPath[p], paths[f.Name()] = data, p
	}
	return byPath, paths
}

// assetPath is the address of a file.
func assetPath(name string) string { return assetPaths[name] }

func (s *server) asset(w http.ResponseWriter, r *http.Request) {
	data, ok := assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(data))
}
