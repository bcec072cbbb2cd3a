//go:build linux

package webui

import (
	_ "embed"
	"net/http"
	"slices"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/auth/access"
	diag "bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
	flows "bulkhead/services/flow/api"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
	update "bulkhead/services/update/api"
)

// endpoint is one question of the API. What is said of it here is what is served, what
// openapi.json says and what the tests ask: nothing has to be written twice.
type endpoint struct {
	// ask is the method, the path below /api/v1/, with the parts that vary in braces,
	// and the names of the parameters behind a question mark. Those that are needed
	// end in "=".
	ask     string
	scope   access.Scope // that is needed, or open or anyToken
	by      answerer
	summary string
	in, out any   // values of the types of body and answer; nil: no body
	refuses []int // HTTP statuses, besides those that follow from the rest: see statuses
}

// Scopes of endpoints that are no token's.
const (
	open     access.Scope = ""    // no token is needed
	anyToken access.Scope = "any" // whatever it is for
)

// answerer is who answers, and what it says besides what was asked for.
type answerer struct {
	handler func(*server) http.Handler
	refuses []int // in any case
	bodies  []int // because of a body that it cannot take
}

var (
	netcfgd = answerer{func(s *server) http.Handler { return http.StripPrefix("/api", s.netcfgd) }, []int{500, 503}, []int{400, 413}}
	authd   = answerer{func(s *server) http.Handler { return http.StripPrefix("/api", s.authd) }, nil, []int{400, 413}}
	flowd   = answerer{func(s *server) http.Handler { return http.StripPrefix("/api", s.flowd) }, []int{400, 503}, nil}
	live    = answerer{func(s *server) http.Handler { return s.following(http.StripPrefix("/api", s.flowd)) }, []int{400, 503}, nil}
	exportd = answerer{func(s *server) http.Handler { return http.StripPrefix("/api", s.exportd) }, []int{503}, nil}
	updated = answerer{func(s *server) http.Handler { return http.StripPrefix("/api", s.updated) }, []int{500, 503}, []int{400}}
)

// own is an answerer that is the server itself.
func own(h func(*server, http.ResponseWriter, *http.Request)) answerer {
	handler := func(s *server) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(s, w, r) })
	}
	return answerer{handler, nil, []int{400, 413}}
}

// health is the answer to who asks whether the box is there.
type health struct {
	OK bool `json:"ok"`
}

// none is the answer to what needs none.
type none struct{}

// lines is an answer that goes on: a line of JSON for each value.
type lines struct{ of any }

// download is an answer that is a file of a media type, and no JSON.
type download struct{ media string }

// image is a body that is a part of an image, and no JSON.
type image struct{}

// endpoints is the whole API. After a change here or to one of the types, have
// openapi.json written anew: go test ./webui -run OpenAPI -update.
var endpoints = []endpoint{
	{"GET health", open, own((*server).healthy), "Whether the box is there", nil, health{}, nil},
	{"POST claim", open, own((*server).takeClaim), "Exchange the code on the console for a token", access.ClaimRequest{}, access.ClaimAnswer{}, []int{403, 422, 429}},
	{"POST certificates", anyToken, own((*server).certify), "Have a client certificate made for a key, where the configuration asks for one", access.CertificateRequest{}, access.CertificateAnswer{}, []int{422}},
	{"GET openapi.json", anyToken, own((*server).document), "This document", nil, map[string]any{}, nil},

	{"GET status", access.Read, netcfgd, "How the box is", nil, api.Status{}, nil},
	{"GET zones", access.Read, netcfgd, "The zones", nil, []api.Zone{}, nil},
	{"GET rules", access.Read, netcfgd, "The policy, and what was refused", nil, api.Rules{}, nil},
	{"GET matrix", access.Read, netcfgd, "What each zone, the internet and the box may open connections to", nil, api.Matrix{}, nil},
	{"GET matrix/{from}/{to}", access.Read, netcfgd, "The rules for connections from one party to another", nil, api.CellRules{}, []int{404}},
	{"GET matrix/{from}/{to}/nft", access.Read, netcfgd, "What the packet filter has about connections from one party to another", nil, api.Compiled{}, []int{404}},
	{"GET devices", access.Read, netcfgd, "The inventory", nil, []api.Device{}, nil},
	{"GET leases", access.Read, netcfgd, "The addresses that are given to devices", nil, []svcconf.Lease{}, nil},
	{"GET leases/history?device", access.Read, netcfgd, "Which addresses a device had, by its name or MAC, or the last 1,000 leases of all of them: the one that was renewed last first", nil, svcconf.LeaseHistory{}, []int{404}},
	{"GET drift", access.Read, netcfgd, "What others changed behind the back of Bulkhead, and was put right, newest first", nil, []api.Drift{}, nil},
	{"GET flows?since&until&device&from&to&zone&rule&reason&verdict&proto&port&name&limit", access.Read, flowd, "Records of flows, the one that ended last first", nil, []record.Record{}, nil},
	{"GET flows/live?device&from&to&zone&rule&reason&verdict&proto&port&name", access.Read, live, "Records of flows as they are made, for as long as the client stays: a line of JSON each, empty lines while nothing happens, and {\"skipped\": n} where the client was too slow for n", nil, lines{record.Record{}}, []int{429}},
	{"GET flows/top?by&per&since&until&device&from&to&zone&rule&reason&verdict&proto&port&name&limit", access.Read, flowd, "Who or what had most, in bytes, connections or refused packets", nil, []record.Sum{}, nil},
	{"GET flows/talks?since&until&device&from&to&zone&rule&reason&verdict&proto&port&name&limit", access.Read, flowd, "Who talks to whom about what", nil, flows.Talks{}, nil},
	{"GET flows/needs?since&until&device&from&to&zone&rule&reason&verdict&proto&port&name&limit", access.Read, flowd, "What rules could be proposed for, and which rules were of use", nil, flows.Needs{}, nil},
	{"GET flows/status", access.Read, flowd, "How the recording of flows goes", nil, flows.Status{}, nil},
	{"GET devices/seen?device&zone&known", access.Read, flowd, "The devices that were seen, in the inventory or not, the one that was seen last first; whom one speaks with, if it is asked for", nil, []inventory.Device{}, nil},
	{"GET events?since&kind&device&zone&limit", access.Read, flowd, "What there was to tell, the latest first", nil, []record.Event{}, nil},
	{"GET export", access.Read, exportd, "How it goes to send flows and events, and to tell of events", nil, svcconf.ExportStatus{}, nil},
	{"POST alerts/test", access.Operate, exportd, "Send a test to everybody who is told of events, and say what each answered", nil, []svcconf.AlertAnswer{}, []int{409}},
	{"GET why?from=&to=&protocol=", access.Read, netcfgd, "Whether one may reach another, and why", nil, api.Why{}, []int{404}},
	{"GET contacts?of=", access.Read, netcfgd, "What a device or another party may open connections to, and who to it", nil, api.Contacts{}, []int{404}},
	{"GET history", access.Read, netcfgd, "The changes that were confirmed, newest first, without the files and what they made possible", nil, []api.Entry{}, nil},
	{"GET history/{number}", access.Read, netcfgd, "One change, with the file", nil, api.Entry{}, []int{404}},
	{"GET history/{from}/diff/{to}", access.Read, netcfgd, "How two changes differ: their files, and what they allow", nil, api.Diff{}, []int{404}},
	{"POST plan", access.Plan, netcfgd, "What a file would change", api.Proposal{}, api.Plan{}, []int{422}},
	{"POST apply", access.Apply, netcfgd, "Try a file: it is in force, and undone unless it is confirmed in time", api.Change{}, api.Trial{}, []int{404, 409, 422}},
	{"POST undo", access.Apply, netcfgd, "Try the configuration before the last change", api.Undo{}, api.Trial{}, []int{404, 409, 422}},
	{"GET pending", access.Read, netcfgd, "The change that is not confirmed yet, and what became of the last one", nil, api.Trials{}, nil},
	{"POST confirm", access.Apply, netcfgd, "Keep the change that is pending: its author, over a connection that began after it", api.Confirm{}, api.Confirmed{}, []int{409, 425}},
	{"POST cancel", access.Apply, netcfgd, "Undo the change that is pending", api.Cancel{}, api.Outcome{}, []int{409}},
	{"GET isolated", access.Read, netcfgd, "The machines that are kept from everybody, the latest last", nil, []api.Isolation{}, nil},
	{"POST isolate", access.Operate, netcfgd, "Keep a machine from everybody, at once and without confirmation", api.Isolate{}, api.Isolation{}, []int{404, 409, 422}},
	{"POST release", access.Operate, netcfgd, "Let an isolated machine do again what the configuration allows", api.Release{}, api.Isolation{}, []int{404, 409, 422}},

	{"GET secrets", access.Admin, netcfgd, "The secrets there are, without their values, and who can read their file", nil, api.Secrets{}, nil},
	{"PUT secrets/{name}", access.Admin, netcfgd, "Set a secret that there is none of yet", api.NewSecret{}, api.Done{}, []int{422}},
	{"POST secrets/{name}/rotate", access.Admin, netcfgd, "Give a secret another value", api.NewSecret{}, api.Done{}, []int{404, 422}},
	{"DELETE secrets/{name}", access.Admin, netcfgd, "Forget a secret that nothing uses", nil, api.Done{}, []int{404, 422}},
	{"POST recipients", access.Admin, netcfgd, "Have the secrets encrypted to another public key as well", api.NewRecipient{}, api.Recipient{}, []int{422}},
	{"DELETE recipients/{id}", access.Admin, netcfgd, "Have the secrets encrypted to a public key no longer", nil, api.Done{}, []int{404}},

	{"GET ports", access.Read, netcfgd, "The network ports that the box has", nil, []api.Port{}, nil},
	{"POST backup", access.Admin, netcfgd, "Everything that makes the box the one that it is, for nobody but its owner's keys", api.NewBackup{}, api.Backup{}, []int{409, 422}},
	{"POST restore", access.Admin, netcfgd, "Take over what a backup holds besides the configuration", api.Restore{}, api.Restored{}, []int{409, 422}},

	{"GET update", access.Update, updated, "How the two systems on the disk are", nil, update.Status{}, nil},
	{"GET checks", access.Read, updated, "Which of the box's own programs answer", nil, []update.Check{}, nil},
	{"GET logs/{name}", access.Operate, updated, "The last that a daemon has logged", nil, update.Log{}, []int{404}},
	{"GET lookup?zone=&name=&type=", access.Operate, updated, "What the box's DNS server tells a device in a zone", nil, update.Lookup{}, []int{422}},
	{"POST ping", access.Operate, updated, "Ask a host whether it answers: a line of JSON for each time", diag.Ping{}, lines{diag.Echo{}}, []int{422, 429}},
	{"POST traceroute", access.Operate, updated, "Ask over which hops a host is reached: a line of JSON for each", diag.Traceroute{}, lines{diag.Hop{}}, []int{422, 429}},
	{"POST capture", access.Admin, updated, "Take the packets on a zone's link, but those between who asks and the management pages: a file for tcpdump and the like, as it comes", diag.Capture{}, download{pcap.MediaType}, []int{422, 429}},
	{"POST update", access.Update, updated, "Begin an update", update.Begin{}, update.None{}, []int{403, 409, 413, 422}},
	{"PUT update/kernel", access.Update, updated, "Send the kernel of the update", image{}, update.None{}, []int{409, 413, 422}},
	{"PUT update/root", access.Update, updated, "Send the root of the update", image{}, update.None{}, []int{409, 413, 422}},
	{"POST update/commit", access.Update, updated, "Restart into the update", update.None{}, update.None{}, []int{409, 507}},
	{"DELETE update", access.Update, updated, "Forget the update", nil, update.None{}, []int{409}},
	{"POST update/gokrazy-password", access.Update, updated, "Set the password of gokrazy's update protocol", update.Password{}, update.None{}, nil},
	{"POST restart", access.Admin, updated, "Restart the box", update.None{}, update.None{}, []int{409}},
	{"POST power-off", access.Admin, updated, "Switch the box off", update.None{}, update.None{}, []int{409}},
	{"GET keys", access.Admin, updated, "The keys that may sign images", nil, update.Keys{}, nil},
	{"POST keys", access.Admin, updated, "Trust another key", update.AddKey{}, update.None{}, []int{403, 409}},
	{"DELETE keys/{id}", access.Admin, updated, "Trust a key no more", update.RemoveKey{}, update.None{}, []int{403, 404, 409}},

	{"GET tokens", access.Admin, authd, "The tokens there are, without their secrets", nil, []access.Token{}, nil},
	{"POST tokens", access.Admin, authd, "Make a token that holds no more than the one that asks", access.TokenRequest{}, access.TokenAnswer{}, []int{409, 422}},
	{"DELETE tokens/{id}", access.Admin, authd, "Make a token worthless", nil, none{}, []int{404}},
}

func (e *endpoint) method() string {
	method, _, _ := strings.Cut(e.ask, " ")
	return method
}

func (e *endpoint) path() string {
	_, path, _ := strings.Cut(e.ask, " ")
	path, _, _ = strings.Cut(path, "?")
	return "/api/v1/" + path
}

func (e *endpoint) query() []string {
	_, query, ok := strings.Cut(e.ask, "?")
	if !ok {
		return nil
	}
	return strings.Split(query, "&")
}

// statuses returns the HTTP statuses of answers that are none.
func (e *endpoint) statuses() []int {
	list := slices.Concat([]int{http.StatusMisdirectedRequest}, e.refuses, e.by.refuses)
	if e.in != nil {
		list = append(list, e.by.bodies...)
	}
	switch e.scope {
	case open:
	default: // 403 is for want of a certificate as well
		list = append(list, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// openapi describes the API, for programs and for those who write them.
//
//go:embed openapi.json
var openapi []byte

func (s *server) document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openapi) // a client that left needs no answer
}

func (s *server) healthy(w http.ResponseWriter, _ *http.Request) { answer(w, health{true}) }
