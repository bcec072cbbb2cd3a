package cmd_test

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// codeSpan is what a README has in backticks, and fence what it has between three of them.
var (
	codeSpan = regexp.MustCompile("`[^`]+`")
	fence    = regexp.MustCompile("(?s)```.*?```")
)

// TestEveryPackageIsOnAMap looks for the name of each package, in backticks, in the README
// of its folder or of one above: who has not read the code finds the way by them. Helpers
// of tests are left out.
func TestEveryPackageIsOnAMap(t *testing.T) {
	names := map[string][]string{} // by folder
	read := func(dir string) []string {
		if list, ok := names[dir]; ok {
			return list
		}
		text, err := os.ReadFile(path.Join("..", dir, "README.md"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		var list []string
		for _, span := range codeSpan.FindAllString(fence.ReplaceAllString(string(text), ""), -1) {
			list = append(list, strings.FieldsFunc(span, func(r rune) bool { return strings.ContainsRune("`/ ,{}", r) })...)
		}
		names[dir] = list
		return list
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, mod)
		if strings.HasSuffix(name, "test") || name == "cmd" {
			continue
		}
		found := false
		for dir := name; !found && dir != "."; {
			found = slices.Contains(read(dir), path.Base(name))
			dir = path.Dir(dir)
		}
		if !found && !slices.Contains(read("."), path.Base(name)) {
			t.Errorf("no README says what %s is", name)
		}
	}
}
