//go:build linux

package webui

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/services/auth/access"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/file"
)

// systemPages are about the box itself.
var systemPages = []page{
	{"GET /system", access.Read, "System", true, (*visit).systemPage},
	{"GET /system/contents", access.Read, "What is in the image", false, (*visit).contentsPage},
	{"GET /system/contents.json", access.Read, "", false, (*visit).contentsFile},
	{"GET /system/update", access.Update, "Updates", false, (*visit).updatePage},
	{"POST /system/update", access.Update, "Updates", false, (*visit).takeImage},
	{"POST /system/update/start", access.Update, "", false, (*visit).startUpdate},
	{"POST /system/update/forget", access.Update, "", false, (*visit).forgetUpdate},
	{"GET /system/logs", access.Operate, "Logs", false, (*visit).logsPage},
	{"GET /system/logs/{daemon}", access.Operate, "Logs", false, (*visit).logPage},
	{"GET /system/lookup", access.Operate, "DNS lookup", false, (*visit).lookupPage},
	{"GET /system/reach", access.Operate, "Ping and traceroute", false, (*visit).reachPage},
	{"GET /system/capture", access.Admin, "Packet capture", false, (*visit).capturePage},
	{"POST /system/capture", access.Admin, "Packet capture", false, (*visit).capture},
	{"GET /system/power", access.Admin, "Restart or switch off", false, (*visit).powerPage},
	{"POST /system/restart", access.Admin, "", false, (*visit).restart},
	{"POST /system/power-off", access.Admin, "", false, (*visit).powerOff},
	{"GET /system/secrets", access.Admin, "Secrets", false, (*visit).secretsPage},
	{"GET /system/backup", access.Admin, "Backup", false, (*visit).backupPage},
	{"POST /system/backup", access.Admin, "Backup", false, (*visit).makeBackup},
}

// systemTabs are the pages below System.
var systemTabs = []struct {
	path, title string
	need        access.Scope
}{
	{"/system", "This box", access.Read},
	{"/system/contents", "Contents", access.Read},
	{"/system/update", "Updates", access.Update},
	{"/system/logs", "Logs", access.Operate},
	{"/system/lookup", "DNS lookup", access.Operate},
	{"/system/reach", "Ping", access.Operate},
	{"/system/capture", "Capture", access.Admin},
	{"/system/secrets", "Secrets", access.Admin},
	{"/system/backup", "Backup", access.Admin},
	{"/system/power", "Power", access.Admin},
}

// tabs are those that the visitor may see.
func (v *visit) tabs() (list []navItem) {
	for _, t := range systemTabs {
		if v.may(t.need) {
			list = append(list, navItem{t.path, t.title, v.URL.Path == t.path || t.path != "/system" && strings.HasPrefix(v.URL.Path, t.path+"/")})
		}
	}
	return list
}

// systemView is what the box is.
type systemView struct {
	Tabs        []navItem
	Version     string // "": this is no image
	Built       when
	Kernel      string
	Git         string
	Up          string
	Certificate struct {
		Until       when
		Fingerprint string
	}
	Ports   []portRow
	NoPorts string // why they are not known
	Admin   bool
}

type portRow struct {
	Name, Use, MAC, Driver string
	Link                   bool
	Speed                  string
	Zones                  []string
}

func (v *visit) systemPage() error {
	image := v.s.image
	view := systemView{
		Tabs: v.tabs(), Version: image.Version, Built: v.when(image.Built), Kernel: image.Kernel, Git: image.Git,
		Up: spanText(api.Uptime()), Admin: v.may(access.Admin),
	}
	view.Certificate.Until = v.when(v.s.identity.until())
	view.Certificate.Fingerprint = v.s.identity.fingerprint().String()
	ports, err := v.box().Ports(v.Context())
	if err != nil {
		view.NoPorts = err.Error()
		return v.show("system", view)
	}
	zones, err := v.box().Zones(v.Context())
	if err != nil {
		return err
	}
	for _, p := range ports {
		row := portRow{Name: p.Name, Use: p.Use, MAC: p.MAC.String(), Driver: p.Driver, Link: p.Carrier, Speed: speedText(p.Speed)}
		if p.Uplink {
			row.Zones = append(row.Zones, "internet")
		}
		for _, z := range zones {
			if p.Use == "" || z.Port != p.Use {
				continue
			}
			name := z.Name
			if z.VLAN != 0 {
				name += " (VLAN " + strconv.Itoa(int(z.VLAN)) + ")"
			}
			row.Zones = append(row.Zones, name)
		}
		view.Ports = append(view.Ports, row)
	}
	return v.show("system", view)
}

// speedText is how fast a port is, in words.
func speedText(mbit int) string {
	switch {
	case mbit <= 0:
		return ""
	case mbit%1000 == 0:
		return fmt.Sprintf("%d Gbit/s", mbit/1000)
	case mbit > 1000:
		return fmt.Sprintf("%.1f Gbit/s", float64(mbit)/1000)
	}
	return fmt.Sprintf("%d Mbit/s", mbit)
}

// spanText is how long something has been so, in words.
func spanText(d time.Duration) string {
	for _, u := range []struct {
		name string
		is   time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := d / u.is; n > 0 {
			return counting(uint64(n), u.name)
		}
	}
	return "less than a minute"
}

// contentsView is the bill of materials of the image.
type contentsView struct {
	Tabs    []navItem
	Whole   bool // it is that of the image, which can be had as a file
	Bill    bill
	Modules []module
}

func (v *visit) contentsPage() error {
	b, whole := billIn(v.s.o.Bill)
	return v.show("contents", contentsView{v.tabs(), whole, b, b.modules()})
}

// contentsFile gives the bill of materials away as the builder has written it.
func (v *visit) contentsFile() error {
	data, err := file.Read(v.s.o.Bill, maxBill)
	if err != nil {
		return &auth.Refusal{Status: http.StatusNotFound, Why: "the image says nothing of what is in it"}
	}
	v.download("contents.json", "application/json")
	_, _ = v.w.Write(data) // a browser that left needs no file
	return nil
}

// secretsView is how old the secrets are. It has none of their values, nor does netcfgd
// tell them.
type secretsView struct {
	Tabs       []navItem
	Lost       string
	Secrets    []secretRow
	Recipients []recipientRow
}

type secretRow struct {
	Name    string
	Missing bool
	Old     bool
	Since   when
	Age     string
	By      string
	Uses    []string
}

type recipientRow struct {
	Name, By string
	Key      string
	Added    when
}

func (v *visit) secretsPage() error {
	s, err := v.box().Secrets(v.Context())
	if err != nil {
		return err
	}
	view := secretsView{Tabs: v.tabs(), Lost: s.Lost, Recipients: v.recipients(s)}
	for _, x := range s.Secrets {
		row := secretRow{Name: x.Name, Missing: x.Missing, Old: x.Old, Since: v.when(x.Since()), By: x.By, Uses: x.Uses}
		if !x.Since().IsZero() {
			row.Age = spanText(time.Since(x.Since()))
		}
		view.Secrets = append(view.Secrets, row)
	}
	return v.show("secrets", view)
}

func (v *visit) recipients(s *api.Secrets) (rows []recipientRow) {
	for _, r := range s.Recipients {
		rows = append(rows, recipientRow{r.Name, r.By, r.Key, v.when(r.Added)})
	}
	return rows
}

// backupView is for whom a backup is made.
type backupView struct {
	Tabs       []navItem
	Box        string
	Recipients []recipientRow
	Key        string   // as it was typed
	LeftOut    []string // what there is no room for: it was asked whether to go on
	Error      string
}

func (v *visit) backupView() (view backupView, err error) {
	s, err := v.box().Secrets(v.Context())
	if err != nil {
		return view, err
	}
	return backupView{Tabs: v.tabs(), Box: or(v.s.conf.Load().Name, "NAME"), Recipients: v.recipients(s)}, nil
}

func (v *visit) backupPage() error {
	view, err := v.backupView()
	if err != nil {
		return err
	}
	return v.show("backup", view)
}

// makeBackup gives a backup away as a file. What it lacks is said before.
func (v *visit) makeBackup() error {
	f, err := v.form(maxForm)
	if err != nil {
		return err
	}
	key := strings.TrimSpace(f.Get("key"))
	in := api.NewBackup{}
	if key != "" {
		in.Recipients = []string{key}
	}
	b, err := v.box().Backup(v.Context(), in)
	if err != nil {
		status, _ := statusOfPage(err)
		if status != http.StatusUnprocessableEntity && status != http.StatusConflict {
			return err
		}
		view, viewErr := v.backupView()
		if viewErr != nil {
			return viewErr
		}
		view.Key, view.Error = key, err.Error()
		return v.showAs(status, "backup", view)
	}
	if len(b.LeftOut) > 0 && !slices.Equal(f["without"], b.LeftOut) {
		view, err := v.backupView()
		if err != nil {
			return err
		}
		view.Key, view.LeftOut = key, b.LeftOut
		return v.show("backup", view)
	}
	v.download(v.when(b.Time).Format(time.DateOnly)+".backup.age", "application/octet-stream")
	v.w.Header().Set("Content-Length", strconv.Itoa(len(b.Data)))
	_, _ = v.w.Write(b.Data) // a browser that left needs no file
	return nil
}
