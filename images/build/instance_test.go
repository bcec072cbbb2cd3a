package build_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/images/build"
)

func TestOurInstance(t *testing.T) {
	in, err := build.ReadInstance("../bulkhead")
	if err != nil {
		t.Fatal(err)
	}
	if in.Hostname == "" || len(in.Packages) == 0 {
		t.Errorf("got %+v", in)
	}
}

// TestInstancesThatCannotBeBuilt changes one thing of ours at a time.
func TestInstancesThatCannotBeBuilt(t *testing.T) {
	tests := []struct {
		name   string
		change func(map[string]any)
		want   string
	}{
		{"unknown key", func(m map[string]any) { m["Packges"] = nil }, `unknown field "Packges"`},
		{"boot loader of a Raspberry Pi", func(m map[string]any) { m["BootloaderExtraLines"] = []string{"gpio=1"} }, "BootloaderExtraLines"},
		{"password", func(m map[string]any) { m["Update"] = map[string]any{"HTTPPassword": "secret"} }, "HTTPPassword"},
		{"reachable web interface", func(m map[string]any) { delete(m, "Update") }, "NoPassword must be true"},
		{"default services", func(m map[string]any) { delete(m, "GokrazyPackages") }, "DHCP client"},
		{"stock kernel", func(m map[string]any) { m["KernelPackage"] = "github.com/rtr7/kernel" }, "KernelPackage must be"},
		{"default kernel", func(m map[string]any) { delete(m, "KernelPackage") }, "KernelPackage must be"},
		{"firmware", func(m map[string]any) { delete(m, "FirmwarePackage") }, "FirmwarePackage must be"},
		{"host name", func(m map[string]any) { m["Hostname"] = "a b" }, "Hostname"},
		{"no packages", func(m map[string]any) { m["Packages"] = []string{} }, "Packages is empty"},
		{"two of a name", func(m map[string]any) { m["Packages"] = []string{"a/x", "b/x"} }, "would both be /user/x"},
		{"pattern", func(m map[string]any) { m["Packages"] = []string{"bulkhead/..."} }, "name each one"},
		{"configuration of nothing", func(m map[string]any) { m["PackageConfig"] = map[string]any{"a/x": map[string]any{}} }, "not in Packages"},
		{"environment", func(m map[string]any) { packageConfig(m, "Environment", []string{"DEBUG"}) }, "want key=value"},
		{"relative file", func(m map[string]any) { packageConfig(m, "ExtraFileContents", map[string]string{"etc/x": ""}) }, "absolute path"},
		{"file above", func(m map[string]any) { packageConfig(m, "ExtraFilePaths", map[string]string{"/etc/../x": ""}) }, "absolute path"},
		{"serial console", func(m map[string]any) { m["SerialConsole"] = "ttyS0,115200 init=/bin/sh" }, "SerialConsole"},
		{"mount", func(m map[string]any) { m["MountDevices"] = []map[string]any{{"Target": "/etc"}} }, "folder in /mnt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := os.ReadFile("../bulkhead/config.json")
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]any
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			if data, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := build.ReadInstance(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func packageConfig(m map[string]any, key string, value any) {
	m["PackageConfig"] = map[string]any{"bulkhead/cmd/bulkhead": map[string]any{key: value}}
}
