//go:build linux

package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"bulkhead/netcfg/svcconf"
	auth "bulkhead/services/auth/api"
	"bulkhead/services/auth/audit"
	diag "bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
	"bulkhead/services/sock/sockhttp"
	"bulkhead/services/update/gate"
)

// errand is something that diagd is to do. updated asks it for people, since that is root,
// which alone diagd answers, knows from authd who they are, and can write down what they
// did.
type errand struct {
	path string
	in   any
	kind string // media type of the answer
	what string // in the audit log
	of   string
	more string
	// sends says that packets go out as soon as diagd is asked.
	sends bool
	most  int64 // of the answer, in bytes
}

const linesType = "application/x-ndjson"

// maxTime bounds how long an errand takes, whatever diagd does.
const maxTime = 2 * time.Minute

// maxFailure bounds what is read of why diagd does not do something, in bytes.
const maxFailure = 64 << 10

func ping(u *updater, w http.ResponseWriter, r *http.Request) (e errand, err error) {
	in, err := read[diag.Ping](w, r)
	if err != nil {
		return e, err
	}
	if err := in.Fill(); err != nil {
		return e, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return u.probe(r, &in.Target, errand{path: "/v1/ping", in: &in, what: "ping"})
}

func traceroute(u *updater, w http.ResponseWriter, r *http.Request) (e errand, err error) {
	in, err := read[diag.Traceroute](w, r)
	if err != nil {
		return e, err
	}
	if err := in.Fill(); err != nil {
		return e, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return u.probe(r, &in.Target, errand{path: "/v1/traceroute", in: &in, what: "traceroute"})
}

// probe puts the address in the place of a target.
func (u *updater) probe(r *http.Request, target *string, e errand) (errand, error) {
	e.kind, e.of, e.sends, e.most = linesType, *target, true, diag.MaxLines
	addr, err := u.address(r.Context(), *target)
	if err == nil && addr != *target {
		*target, e.more = addr, addr
	}
	return e, err
}

func capture(_ *updater, w http.ResponseWriter, r *http.Request) (e errand, err error) {
	in, err := read[diag.Capture](w, r)
	if err != nil {
		return e, err
	}
	if err := in.Fill(); err != nil {
		return e, refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	if len(in.Filter) > audit.MaxField {
		return e, refuse(http.StatusUnprocessableEntity, "filter: it is longer than the %d bytes that the audit log keeps of it", audit.MaxField)
	}
	watch := diag.Watch{Capture: in, Without: askerOf(r).From}
	return errand{path: "/v1/capture", in: watch, kind: pcap.MediaType, what: "packets captured", of: in.Zone, more: in.Filter, most: int64(in.Bytes)}, nil
}

// address returns that of a target that may be a name.
func (u *updater) address(ctx context.Context, target string) (string, error) {
	addr, err := netip.ParseAddr(target)
	if err != nil {
		addr, err = u.look.Address(ctx, target)
		if err != nil && !errors.Is(err, gate.ErrQuestion) {
			return "", refuse(http.StatusServiceUnavailable, "%s", err)
		}
	}
	if err == nil {
		err = diag.CheckTarget(addr)
	}
	if err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "%s", err)
	}
	return addr.String(), nil
}

// diagnose has diagd do an errand, and hands on what it says as it comes. It is written
// down before that: nobody sends or sees a packet that nobody knows of.
func (u *updater) diagnose(prepare func(*updater, http.ResponseWriter, *http.Request) (errand, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := prepare(u, w, r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		conn := http.NewResponseController(w)
		_ = conn.SetReadDeadline(time.Time{}) // or a quiet answer is taken for a client that has left
		ctx, cancel := context.WithTimeout(r.Context(), maxTime)
		defer cancel()
		recorded := func() bool {
			err := u.record(r, e)
			if err != nil {
				answer(w, nil, refuse(http.StatusServiceUnavailable, "it cannot be written down who asks for that, so it is not done: %s", err))
			}
			return err == nil
		}
		if e.sends && !recorded() {
			return
		}
		resp, err := u.askDiagd(ctx, e)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer resp.Body.Close()
		if !e.sends && !recorded() { // only what diagd takes is an errand
			return
		}
		w.Header().Set("Content-Type", e.kind)
		body := io.LimitReader(resp.Body, e.most)
		for buf := make([]byte, 32<<10); ; {
			n, err := body.Read(buf)
			_ = conn.SetWriteDeadline(time.Now().Add(idle)) // a recorder in a test has none
			_, werr := w.Write(buf[:n])
			switch {
			case werr != nil || errors.Is(err, io.EOF):
				return
			case err != nil:
				panic(http.ErrAbortHandler) // so that what is cut does not pass for whole
			}
			_ = conn.Flush() // as above
		}
	})
}

// record writes down what was asked for.
func (u *updater) record(r *http.Request, e errand) error {
	rec, ok := u.guard.(auth.Recorder)
	if !ok {
		return nil
	}
	entry := askerOf(r).Entry
	entry.What, entry.Of, entry.More = e.what, e.of, e.more
	return rec.Record(r.Context(), entry)
}

func (u *updater) askDiagd(ctx context.Context, e errand) (*http.Response, error) {
	socket := filepath.Join(u.dirs.RunDir(svcconf.Diagd.Name), svcconf.DiagSocket)
	body, err := json.Marshal(e.in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://diagd"+e.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := sockhttp.Transport(socket).RoundTrip(req)
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "the service that looks at the network does not answer: %s", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f struct{ Error string }
	if json.NewDecoder(io.LimitReader(resp.Body, maxFailure)).Decode(&f) != nil || f.Error == "" {
		f.Error = fmt.Sprintf("diagd answers %s", resp.Status)
	}
	return nil, refuse(max(resp.StatusCode, http.StatusBadRequest), "%s", f.Error)
}
