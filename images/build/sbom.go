package build

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"path"
	"path/filepath"

	"bulkhead/services/update/manifest"
)

// BOM is the bill of materials of an image: what is in it, and what made it.
type BOM struct {
	Image    manifest.Info
	Programs []BOMProgram
	Kernel   BOMKernel
	Debian   []BOMPackage // whose programs or files went into the image
}

// BOMProgram is a program of the image, as it says itself.
type BOMProgram struct {
	Path    string // in the image
	Package string
	Go      string
	Modules []BOMModule
}

// BOMModule is a Go module in a program. The sum is go.sum's; this module has none.
type BOMModule struct{ Path, Version, Sum string }

// BOMKernel is the kernel.
type BOMKernel struct {
	Version  string
	Source   string
	Compiler string
	Config   string // SHA-256 of the whole configuration
	SHA256   string // of the kernel
}

// BOMPackage is a package of Debian.
type BOMPackage struct{ Name, Version string }

// sbom returns the bill of materials in the frame that gokrazy's status page reads.
func (b *builder) sbom(ctx context.Context) ([]byte, error) {
	bom := BOM{Image: b.info, Kernel: BOMKernel{Version: b.info.Kernel, Source: b.kernel.Source, Compiler: b.kernel.Compiler}}
	var err error
	if bom.Kernel.Config, err = fileSum(filepath.Join(b.Kernel, "config")); err != nil {
		return nil, err
	}
	if bom.Kernel.SHA256, err = fileSum(b.kernelFile()); err != nil {
		return nil, err
	}
	files := []string{"/gokrazy/init"}
	for _, p := range b.instance.programs() {
		files = append(files, p.Path())
	}
	for _, f := range files {
		p, err := b.bomProgram(f)
		if err != nil {
			return nil, err
		}
		bom.Programs = append(bom.Programs, p)
	}
	for _, pkg := range debianTools {
		bom.Debian = append(bom.Debian, BOMPackage{pkg, debianVersion(ctx, pkg)})
	}
	inner, err := json.Marshal(bom)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(inner)
	outer, err := json.MarshalIndent(map[string]any{"sbom_hash": hex.EncodeToString(sum[:]), "sbom": json.RawMessage(inner)}, "", "\t")
	return append(outer, '\n'), err
}

func (b *builder) bomProgram(name string) (BOMProgram, error) {
	bi, err := buildinfo.ReadFile(b.inRoot(name))
	if err != nil {
		return BOMProgram{}, err
	}
	p := BOMProgram{Path: path.Clean(name), Package: bi.Path, Go: bi.GoVersion}
	p.Modules = append(p.Modules, BOMModule{bi.Main.Path, b.info.Version, ""})
	for _, m := range bi.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p.Modules = append(p.Modules, BOMModule{m.Path, m.Version, m.Sum})
	}
	return p, nil
}

func fileSum(path string) (string, error) {
	data, err := os.ReadFile(path)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}
