package kernel_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/kernel"
)

func TestParseConfigTakesTheLastSettingOfAnOption(t *testing.T) {
	got := kernel.ParseConfig("#\n# Linux/x86 6.12 Kernel Configuration\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"a b\"\nCONFIG_D=0x10\nCONFIG_A=m\nB=y\n")
	want := kernel.Config{"A": "m", "B": "n", "C": `"a b"`, "D": "0x10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseFragmentRefusesWhatLooksLikeASettingAndIsNone(t *testing.T) {
	for text, want := range map[string]string{
		"CONFIG_A=y\nCONFIG_A=n\n":      "f:2: CONFIG_A is set twice",
		"# words\n\nCONFIG_A = y\n":     "f:3: neither a setting nor a comment",
		"#CONFIG_A is not set\n":        "f:1: neither a setting nor a comment",
		"# CONFIG_A is not set.\n":      "f:1: neither a setting nor a comment",
		"CONFIG_A=yes\n":                "f:1: CONFIG_A cannot be yes",
		"CONFIG_A=m\n":                  "f:1: CONFIG_A cannot be a module",
		"CONFIG_A=\"x\n":                "f:1: CONFIG_A cannot be \"x",
		"A=y\n":                         "f:1: neither a setting nor a comment",
		"CONFIG_A=y # because\n":        "f:1: CONFIG_A cannot be y # because",
		"# CONFIG_A is not set\nelse\n": "f:2: neither a setting nor a comment",
	} {
		if _, err := kernel.ParseFragment("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", text, err, want)
		}
	}
}

// TestOverlayKeepsNoModules also shows the order: of HZ_100 and HZ_1000, which
// exclude each other, the later one counts.
func TestOverlayKeepsNoModules(t *testing.T) {
	base := kernel.ParseConfig("CONFIG_NET=y\nCONFIG_SOUND=m\nCONFIG_WLAN=y\nCONFIG_HZ_1000=y\n")
	over := kernel.ParseConfig("# CONFIG_WLAN is not set\nCONFIG_VLAN=y\nCONFIG_HZ_100=y\n")
	got := base.WithoutModules().Overlay(over)
	want := "CONFIG_HZ_1000=y\nCONFIG_NET=y\nCONFIG_HZ_100=y\nCONFIG_VLAN=y\n# CONFIG_WLAN is not set\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if base["SOUND"] != "m" {
		t.Error("merging changed what was merged")
	}
}

func TestOffAndAbsentAreTheSame(t *testing.T) {
	want := kernel.Config{"A": "n", "B": "y", "C": "n", "D": "5"}
	got := kernel.Config{"B": "y", "C": "y"}
	if diff := cmp.Diff([]string{"C", "D"}, want.Lost(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n# words\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := kernel.ParseFragment("f", text)
		if err != nil {
			return
		}
		// What is accepted means the same to the lenient reader, written back or not.
		if diff := cmp.Diff(c, kernel.ParseConfig(text)); diff != "" {
			t.Errorf("read as a configuration (-fragment +config):\n%s", diff)
		}
		if diff := cmp.Diff(c, kernel.ParseConfig(c.String())); diff != "" {
			t.Errorf("written and read again (-want +got):\n%s", diff)
		}
	})
}

func TestFragmentsAskForWhatIsNeeded(t *testing.T) {
	needs, err := kernel.Needs()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"amd64", "arm64"} {
		arch, err := kernel.ArchByName(name)
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := arch.Wanted()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range needs {
			// A defconfig may bring what is needed. A fragment may not take it away.
			if value, ok := wanted[n.Option]; ok && (n.Arch == "" || n.Arch == name) && n.Value != value && (n.Value != "" || (value == "n") != n.Off) {
				t.Errorf("%s: the fragments set CONFIG_%s=%s, needed.txt wants the opposite: %s", name, n.Option, value, n.Why)
			}
		}
	}
	if _, err := kernel.ArchByName("mips"); err == nil {
		t.Error("there is a kernel for mips")
	}
}

func TestMissingNamesOptionAndReason(t *testing.T) {
	needs := []kernel.Need{
		{Option: "VLAN_8021Q", Why: "zones"}, {Option: "MODULES", Off: true, Why: "signed"},
		{Option: "ITCO_WDT", Arch: "amd64", Why: "watchdog"}, {Option: "NET", Why: "all of it"},
		{Option: "PANIC_TIMEOUT", Value: "10", Why: "restarts"}, {Option: "HZ", Value: "250", Why: "ticks"},
	}
	got := kernel.Missing(needs, "arm64", kernel.Config{"MODULES": "y", "NET": "y", "VLAN_8021Q": "m", "PANIC_TIMEOUT": "0", "HZ": "250"})
	want := []string{
		"CONFIG_VLAN_8021Q is m and must be on: zones",
		"CONFIG_MODULES is y and must be off: signed",
		"CONFIG_PANIC_TIMEOUT is 0 and must be 10: restarts",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
