package edit_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/conf/edit"
	"bulkhead/netcfg/model"
)

// TestEditsMeanWhatTheySay makes edits at random, of texts and of what the texts say, and
// compares. What the texts say is read by a YAML library, without package conf.
func TestEditsMeanWhatTheySay(t *testing.T) {
	for _, name := range examples(t) {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for seed := range uint64(60) {
			w := walker{rand.New(rand.NewPCG(seed, 1)), file, says(t, file)}
			for range 4 {
				e, means, what := w.edit(t)
				out, err := edit.Apply(w.file, e)
				if _, refused := errors.AsType[*edit.Refused](err); refused {
					continue // chance made something that conf does not take
				}
				if err != nil && (strings.Contains(err.Error(), "still named by") || strings.Contains(err.Error(), "is there already")) {
					continue
				}
				if err != nil {
					t.Fatalf("%s, seed %d, %s: %v\n%s", name, seed, what, err, w.file)
				}
				means(w.says)
				if diff := cmp.Diff(w.says, says(t, out)); diff != "" {
					t.Fatalf("%s, seed %d, %s: the file says (-want +got):\n%s\n%s", name, seed, what, diff, out)
				}
				checkComments(t, w.file, out)
				w.file = out
				done++
			}
		}
		if done < 100 {
			t.Errorf("%s: only %d edits were possible", name, done)
		}
	}
}

// checkComments holds that every comment on a line of its own between entries stays.
func checkComments(t *testing.T, before, after []byte) {
	t.Helper()
	left := after
	for l := range bytes.Lines(before) {
		if !bytes.HasPrefix(bytes.TrimLeft(l, " "), []byte("#")) {
			continue
		}
		i := bytes.Index(left, l)
		if i < 0 {
			t.Fatalf("the comment %q is gone, or elsewhere:\n%s", l, after)
		}
		left = left[i+len(l):]
	}
}

// walker makes edits of a file at random.
type walker struct {
	*rand.Rand
	file []byte
	says map[string]any
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// text is a few words, some of which look like YAML.
func (w *walker) text() string {
	var s []string
	for range 1 + w.IntN(4) {
		s = append(s, pick(w.Rand, "films", "true", "no", "12", "0x1f", "1e3", "a: b", "#1", "x #y", "it's", "[a]", "{b}", "a,b", "- c", "&d", "*", "!x", "%", "@", "`", "null", "~", "2027-01-31", "?", ": ", "\\n", "'", "|", "<<", "=", ".inf", "1:20"))
	}
	return strings.Join(s, pick(w.Rand, " ", "", "  ", ": "))
}

func (w *walker) some(of []string) []string {
	of = slices.Clone(of)
	w.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:1+w.IntN(min(len(of), 4))]
}

// edit returns an edit, the same of what the file says, and its name.
func (w *walker) edit(t *testing.T) (e edit.Edit, means func(map[string]any), what string) {
	cfg, list := conf.Parse("", w.file, time.Time{})
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	var endpoints []string
	for _, z := range cfg.Zones {
		endpoints = append(endpoints, z.Name)
	}
	var devices []string
	for _, d := range cfg.Devices {
		endpoints, devices = append(endpoints, d.Name), append(devices, d.Name)
	}
	protocols := []string{"http", "https", "ssh", "tcp/99", "udp/5000-5010", "ntp"}
	rule := edit.Rule{
		Name: fmt.Sprintf("r%d", w.IntN(1000)), From: w.some(endpoints), To: append(w.some(endpoints), "internet"), Protocols: w.some(protocols),
		Why: w.text(), Owner: pick(w.Rand, "", w.text()), Expires: pick(w.Rand, "", "2027-01-31"),
	}
	l := pick(w.Rand, edit.Allow, edit.Block)
	rules := cfg.Allow
	if l == edit.Block {
		rules = cfg.Block
	}
	switch kind := w.IntN(14); {
	case kind == 0 || len(rules) == 0:
		return edit.AddRule(l, rule), func(m map[string]any) { m[string(l)] = append(listOf(m[string(l)]), ruleSays(rule)) }, "add a rule"
	case kind <= 3:
		old := pick(w.Rand, rules...)
		rule.From = append(slices.Clone(old.FromNames[w.IntN(len(old.FromNames)):]), rule.From...)
		slices.Sort(rule.From)
		rule.From = slices.Compact(rule.From)
		return edit.SetRule(l, old.Name, rule), func(m map[string]any) {
			for i, r := range listOf(m[string(l)]) {
				if r.(map[string]any)["name"].([]any)[0] == old.Name {
					listOf(m[string(l)])[i] = ruleSays(rule)
				}
			}
		}, fmt.Sprintf("set rule %s to %+v", old.Name, rule)
	case kind == 4:
		name := pick(w.Rand, rules...).Name
		return edit.RemoveRule(l, name), func(m map[string]any) {
			m[string(l)] = slices.DeleteFunc(listOf(m[string(l)]), func(r any) bool { return r.(map[string]any)["name"].([]any)[0] == name })
			if len(listOf(m[string(l)])) == 0 {
				delete(m, string(l))
			}
		}, "remove rule " + name
	case kind == 5 || len(devices) == 0:
		d := edit.Device{Name: fmt.Sprintf("d%d", w.IntN(1000)), Zone: pick(w.Rand, cfg.Zones...).Name, MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", w.IntN(256), w.IntN(256)), Owner: w.text(), Critical: w.IntN(2) == 0}
		return edit.AddDevice(d), func(m map[string]any) {
			if m["devices"] == nil {
				m["devices"] = map[string]any{}
			}
			says := map[string]any{"zone": []any{d.Zone}, "mac": []any{d.MAC}, "owner": []any{d.Owner}}
			if d.Critical {
				says["critical"] = []any{true}
			}
			m["devices"].(map[string]any)[d.Name] = says
		}, fmt.Sprintf("add %+v", d)
	case kind == 6:
		name, newName := pick(w.Rand, devices...), fmt.Sprintf("n%d", w.IntN(1000))
		return edit.RenameDevice(name, newName), func(m map[string]any) {
			list := m["devices"].(map[string]any)
			list[newName] = list[name]
			delete(list, name)
			for _, section := range []string{"groups", "allow", "block", "forwards", "tests", "export", "alerts"} {
				renameIn(m[section], section, name, newName)
			}
		}, "rename " + name
	case kind == 7:
		name, k, v := pick(w.Rand, devices...), pick(w.Rand, "owner", "purpose"), pick(w.Rand, "", w.text())
		return edit.SetDeviceKey(name, k, v), func(m map[string]any) {
			d := m["devices"].(map[string]any)[name].(map[string]any)
			if delete(d, k); v != "" {
				d[k] = []any{v}
			}
		}, fmt.Sprintf("set %s of %s to %q", k, name, v)
	case kind == 8:
		name := pick(w.Rand, devices...)
		return edit.RemoveDevice(name), func(m map[string]any) {
			list := m["devices"].(map[string]any)
			if delete(list, name); len(list) == 0 {
				delete(m, "devices")
			}
		}, "remove device " + name
	case kind == 9:
		z := pick(w.Rand, cfg.Zones...).Name
		s := pick(w.Rand, edit.DNS{}, edit.DNS{Off: true}, edit.DNS{Block: []string{"a.example"}}, edit.DNS{Block: []string{"b.example", "a.example", "c.example"}, Force: true})
		return edit.SetDNS(z, s), func(m map[string]any) {
			zone := m["zones"].(map[string]any)[z].(map[string]any)
			old, _ := zone["dns"].(map[string]any)
			delete(zone, "dns")
			switch says := map[string]any{}; {
			case s.Off:
				zone["dns"] = []any{false}
			case len(s.Block) > 0:
				says["block"] = anys(s.Block)
				if s.Force || old["force"] != nil { // what was written may be false now
					says["force"] = []any{s.Force}
				}
				zone["dns"] = says
			}
		}, fmt.Sprintf("DNS of %s is %+v", z, s)
	case kind == 10 && len(cfg.Forwards) > 0 && w.IntN(3) == 0:
		name := pick(w.Rand, cfg.Forwards...).Name
		return edit.RemoveForward(name), func(m map[string]any) {
			m["forwards"] = slices.DeleteFunc(listOf(m["forwards"]), func(r any) bool { return r.(map[string]any)["name"].([]any)[0] == name })
			if len(listOf(m["forwards"])) == 0 {
				delete(m, "forwards")
			}
		}, "remove forward " + name
	case kind <= 11:
		f := edit.Forward{
			Name: fmt.Sprintf("f%d", w.IntN(1000)), Protocols: w.some([]string{"tcp/1", "udp/1", "tcp/2-9", "https"}), To: pick(w.Rand, devices...),
			Owner: w.text(), Why: w.text(), Expires: "2028-02-29",
		}
		says := map[string]any{"name": []any{f.Name}, "protocols": anys(f.Protocols), "to": []any{f.To}, "owner": []any{f.Owner}, "why": []any{f.Why}, "expires": []any{f.Expires}}
		if len(cfg.Forwards) == 0 || w.IntN(2) == 0 {
			return edit.AddForward(f), func(m map[string]any) { m["forwards"] = append(listOf(m["forwards"]), says) }, fmt.Sprintf("add forward %+v", f)
		}
		name := pick(w.Rand, cfg.Forwards...).Name
		return edit.SetForward(name, f), func(m map[string]any) {
			for i, r := range listOf(m["forwards"]) {
				if r.(map[string]any)["name"].([]any)[0] == name {
					listOf(m["forwards"])[i] = says
				}
			}
		}, fmt.Sprintf("set forward %s to %+v", name, f)
	default:
		z := pick(w.Rand, cfg.Zones...).Name
		h := pick(w.Rand, edit.DHCP{}, edit.DHCP{Off: true}, edit.DHCP{Lease: "7h"}, edit.DHCP{NTP: []string{"10.99.0.1", "10.99.0.2"}, Lease: "30m"})
		return edit.SetDHCP(z, h), func(m map[string]any) {
			zone := m["zones"].(map[string]any)[z].(map[string]any)
			delete(zone, "dhcp")
			switch says := map[string]any{}; {
			case h.Off:
				zone["dhcp"] = []any{false}
			case h.Lease != "":
				says["lease"] = []any{h.Lease}
				if len(h.NTP) > 0 {
					says["ntp"] = anys(h.NTP)
				}
				zone["dhcp"] = says
			}
		}, fmt.Sprintf("DHCP of %s is %+v", z, h)
	}
}

func listOf(v any) []any {
	list, _ := v.([]any)
	return list
}

func anys(list []string) (out []any) {
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func ruleSays(r edit.Rule) map[string]any {
	m := map[string]any{"name": []any{r.Name}, "from": anys(r.From), "to": anys(r.To), "protocols": anys(r.Protocols), "why": []any{r.Why}}
	if r.Owner != "" {
		m["owner"] = []any{r.Owner}
	}
	if r.Expires != "" {
		m["expires"] = []any{r.Expires}
	}
	return m
}

// renameIn gives a device another name where values name it.
func renameIn(v any, key, name, newName string) {
	switch v := v.(type) {
	case map[string]any:
		for k, w := range v {
			if key == "groups" {
				k = "to" // its names are anybody's choice
			}
			renameIn(w, k, name, newName)
		}
	case []any:
		for i, w := range v {
			s, isText := w.(string)
			switch {
			case !isText:
				renameIn(w, key, name, newName)
			case !slices.Contains([]string{"from", "to", "at"}, key):
			case s == name:
				v[i] = newName
			case strings.HasSuffix(s, "://"+name), strings.Contains(s, "://"+name+":"), strings.Contains(s, "://"+name+"/"):
				v[i] = strings.Replace(s, "://"+name, "://"+newName, 1)
			}
		}
	}
}

// says reads a file by itself. A word is a list of one, and what is empty is not there.
func says(t *testing.T, file []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal(file, &m); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	var lists func(v any) any
	lists = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, w := range v {
				if v[k] = lists(w); v[k] == nil {
					delete(v, k)
				}
			}
			if len(v) == 0 {
				return nil
			}
			return v
		case []any:
			for i, w := range v {
				if _, isMap := w.(map[string]any); isMap {
					v[i] = lists(w)
				}
			}
			if len(v) == 0 {
				return nil
			}
			return v
		case nil:
			return nil
		}
		return []any{v}
	}
	return lists(m).(map[string]any)
}

// FuzzApply edits any file with any text. What comes out can be used and says what was
// wanted, or there is an error.
func FuzzApply(f *testing.F) {
	for _, name := range examples(f) {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "films: yes", uint8(0))
	}
	f.Add([]byte(head+zones+devices+"allow:\n- {name: a, from: [tv,\n # x\n 'nas'], to: internet, protocols: any, why: x}\n"), "# no", uint8(1))
	f.Fuzz(func(t *testing.T, file []byte, text string, what uint8) {
		cfg, list := conf.ParseConfirmed("", file, time.Time{})
		rule := edit.Rule{Name: "fuzzed", From: []string{"box"}, To: []string{"internet"}, Protocols: []string{"ssh", "ntp"}, Why: text}
		edits := []edit.Edit{edit.AddRule(edit.Allow, rule), edit.AddRule(edit.Block, rule)}
		if cfg != nil {
			for _, r := range cfg.Allow {
				edits = append(edits, edit.SetRule(edit.Allow, r.Name, rule), edit.RemoveRule(edit.Allow, r.Name))
			}
			for _, d := range cfg.Devices {
				edits = append(edits, edit.SetDeviceKey(d.Name, "owner", text), edit.RenameDevice(d.Name, text), edit.RemoveDevice(d.Name))
			}
			for _, z := range cfg.Zones {
				edits = append(edits, edit.SetDHCP(z.Name, edit.DHCP{Lease: "2h", NTP: []string{text}}), edit.SetDNS(z.Name, edit.DNS{Block: []string{"a.example", text}}))
			}
		}
		i := int(what) % len(edits)
		out, err := edit.Apply(file, edits[i])
		if err != nil {
			return
		}
		if list.Err() != nil {
			t.Fatal("a file with mistakes was edited")
		}
		after, list := conf.Parse("", out, time.Time{})
		if list.Err() != nil {
			t.Fatal(list.Err())
		}
		if i < 2 {
			rules := [][]*model.Rule{after.Allow, after.Block}[i]
			if got := rules[len(rules)-1]; text != "" && got.Why != text {
				t.Fatalf("the reason is %q, want %q in\n%s", got.Why, text, out)
			}
			for l := range bytes.Lines(file) {
				if l = bytes.TrimSpace(l); len(l) < 20 || bytes.ContainsAny(l, "[{") {
					continue
				}
				if !bytes.Contains(out, l) {
					t.Fatalf("%q is gone:\n%s", l, out)
				}
			}
		}
	})
}
