package kernel_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/kernel"
)

var recipe = kernel.Recipe{Arch: "amd64", Source: "debian 6.12.43-1", Config: "c0ffee", Compiler: "gcc 12"}

func TestKeyChangesWithEveryIngredient(t *testing.T) {
	others := []kernel.Recipe{recipe, recipe, recipe, recipe, recipe}
	others[1].Arch, others[2].Source, others[3].Config, others[4].Compiler = "arm64", "debian 6.12.48-1", "decaf", "gcc 14"
	var keys []string
	for _, r := range others {
		keys = append(keys, r.Key())
	}
	slices.Sort(keys)
	if len(slices.Compact(keys)) != len(others) {
		t.Errorf("two recipes have one key: %v", keys)
	}
	if got, want := recipe.Key(), recipe.Key(); got != want {
		t.Errorf("the same recipe has the keys %s and %s", got, want)
	}
}

func TestRecipeSurvivesItsFile(t *testing.T) {
	got, err := kernel.ParseRecipe(recipe.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recipe, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, text := range []string{"", "recipe 0\narch amd64\n", recipe.String() + "more x\n"} {
		if _, err := kernel.ParseRecipe(text); err == nil {
			t.Errorf("%q was taken for a recipe", text)
		}
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add(recipe.String())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := kernel.ParseRecipe(text)
		if err == nil && r.String() != text {
			t.Errorf("%q came back as %q", text, r.String())
		}
	})
}

// store puts a kernel into a cache and returns its folder.
func store(t *testing.T, cache string, r kernel.Recipe) string {
	t.Helper()
	dir := filepath.Join(cache, r.Key())
	write(t, filepath.Join(dir, "vmlinuz"), "kernel")
	write(t, filepath.Join(dir, "key"), r.String())
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFindLooksAtTheSharedCacheFirst(t *testing.T) {
	shared, own := t.TempDir(), t.TempDir()
	store(t, own, recipe)
	k, err := kernel.Find([]string{shared, own}, recipe)
	if err != nil || filepath.Dir(k.Dir) != own {
		t.Fatalf("got %v, %v; want the one in the user's cache", k, err)
	}
	want := store(t, shared, recipe)
	if k, err = kernel.Find([]string{shared, own, filepath.Join(own, "absent")}, recipe); err != nil || k.Dir != want {
		t.Errorf("got %v, %v; want the shared one", k, err)
	}
}

func TestFindTakesTheNewestSourceIfNoneIsKnown(t *testing.T) {
	cache := t.TempDir()
	var newest string
	for _, version := range []string{"6.12.9-1", "6.12.10-1~deb12u1", "6.12.10-1", "6.12.10~rc1-1"} {
		r := recipe
		r.Source = "debian " + version
		dir := store(t, cache, r)
		if version == "6.12.10-1" {
			newest = dir
		}
	}
	other := recipe
	other.Source, other.Config = "debian 6.13-1", "decaf"
	store(t, cache, other)

	want := recipe
	want.Source = ""
	if k, err := kernel.Find([]string{cache}, want); err != nil || k.Dir != newest {
		t.Errorf("got %v, %v; want %s", k, err, newest)
	}
	want.Source = "debian 6.12.11-1"
	if _, err := kernel.Find([]string{cache}, want); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for a source that nothing was built of, want fs.ErrNotExist", err)
	}
}

func TestFindPassesOverWhatIsDamaged(t *testing.T) {
	cache := t.TempDir()
	dir := store(t, cache, recipe)
	for name, damage := range map[string]func(){
		"another key":     func() { write(t, filepath.Join(dir, "key"), kernel.Recipe{Arch: "amd64"}.String()) },
		"half a key":      func() { write(t, filepath.Join(dir, "key"), recipe.String()[:20]) },
		"an empty kernel": func() { write(t, filepath.Join(dir, "vmlinuz"), "") },
	} {
		store(t, cache, recipe)
		damage()
		if k, err := kernel.Find([]string{cache}, recipe); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, %v; want fs.ErrNotExist", name, k, err)
		}
	}
}
