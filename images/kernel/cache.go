package kernel

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// recipeVersion counts changes to how a kernel is built that are visible in none of
// the other ingredients. Whoever changes the result of the same ingredients adds one.
const recipeVersion = "1"

// Recipe is everything that decides what a build results in. No time is in it.
type Recipe struct {
	Arch     string // as Go calls it
	Source   string // "debian 6.12.43-1", or "tree " and a hash of its files; "" if not known
	Config   string // hash of the options that the fragments set
	Compiler string // "gcc 12"; "" if not known
}

// String returns the recipe as it stands in the file "key" of a cache entry.
func (r Recipe) String() string {
	return fmt.Sprintf("recipe %s\narch %s\nsource %s\nconfig %s\ncompiler %s\n",
		recipeVersion, r.Arch, r.Source, r.Config, r.Compiler)
}

// Key returns the name of the recipe's cache entry.
func (r Recipe) Key() string { return digest(r.String())[:16] }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// ParseRecipe reads the file "key" of a cache entry. The error says if the entry was
// made by another version of this package, whose builds differ.
func ParseRecipe(text string) (Recipe, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		fields[name] = value
	}
	r := Recipe{Arch: fields["arch"], Source: fields["source"], Config: fields["config"], Compiler: fields["compiler"]}
	if r.String() != text {
		return Recipe{}, errors.New("not a recipe of this version")
	}
	return r, nil
}

// fits reports whether r is what was looked for. Ingredients of want that are not
// known fit with any.
func (r Recipe) fits(want Recipe) bool {
	return r.Arch == want.Arch && r.Config == want.Config &&
		(want.Source == "" || r.Source == want.Source) &&
		(want.Compiler == "" || r.Compiler == want.Compiler)
}

// Kernel is a kernel that has been built: a folder of the cache.
type Kernel struct {
	Recipe
	Dir string
}

// Image returns the path of the kernel itself.
func (k Kernel) Image() string { return filepath.Join(k.Dir, "vmlinuz") }

// Config returns what it was configured with.
func (k Kernel) Config() (Config, error) {
	data, err := os.ReadFile(filepath.Join(k.Dir, "config"))
	if err != nil {
		return nil, err
	}
	return ParseConfig(string(data)), nil
}

// Find looks for a kernel made by a recipe in folders, the first one first. If
// ingredients are not known it is the one from the newest source in the first folder
// that has any. The error wraps [fs.ErrNotExist] if there is none.
func Find(folders []string, want Recipe) (Kernel, error) {
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Kernel{}, fmt.Errorf("look for a kernel: %w", err)
		}
		var found []Kernel
		for _, e := range entries {
			if k, ok := open(filepath.Join(folder, e.Name())); ok && k.fits(want) {
				found = append(found, k)
			}
		}
		if len(found) > 0 {
			return slices.MaxFunc(found, func(a, b Kernel) int {
				return cmp.Or(compareVersions(a.Source, b.Source), compareVersions(a.Compiler, b.Compiler))
			}), nil
		}
	}
	return Kernel{}, fmt.Errorf("no kernel for %s in %s: %w", want.Arch, strings.Join(folders, ", "), fs.ErrNotExist)
}

// open returns the kernel in a folder, if it is one: under construction, of another
// version or damaged ones are not.
func open(dir string) (Kernel, bool) {
	text, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		return Kernel{}, false
	}
	r, err := ParseRecipe(string(text))
	if err != nil || filepath.Base(dir) != r.Key() {
		return Kernel{}, false
	}
	k := Kernel{r, dir}
	if i, err := os.Stat(k.Image()); err != nil || i.Size() == 0 {
		return Kernel{}, false
	}
	return k, true
}

// compareVersions orders versions as people do: 6.12.9 before 6.12.10. What follows
// a tilde comes before what does not, as with Debian.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		na, ra := leading(a)
		nb, rb := leading(b)
		c := cmp.Compare(na, nb)
		if isDigit(na[0]) && isDigit(nb[0]) {
			na, nb = strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
			c = cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb))
		} else if (na[0] == '~') != (nb[0] == '~') {
			c = cmp.Compare(nb[0], na[0]) // the tilde is the last of ASCII's visible characters
		}
		if c != 0 {
			return c
		}
		a, b = ra, rb
	}
	switch {
	case strings.HasPrefix(a, "~"):
		return -1
	case strings.HasPrefix(b, "~"):
		return 1
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// leading cuts s after its first number or its first other character.
func leading(s string) (head, tail string) {
	n := 1
	for isDigit(s[0]) && n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n], s[n:]
}
