//go:build linux

package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"bulkhead/netcfg/svcconf"
	auth "bulkhead/services/auth/api"
	diag "bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
	"bulkhead/services/sock"
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
}

const linesType = "application/x-ndjson"

// maxFailure bounds what is read of why diagd does not do something, in bytes.
const maxFailure = 64 << 10

func ping(u *updater, w http.ResponseWriter, r *http.Request) (e errand, err error) {
	in, err := read[diag.Ping](w, r)
	if err != nil {
		return e, err
	}
	e = errand{"/v1/ping", &in, linesType, "ping", in.Target, ""}
	in.Target, err = u.address(r.Context(), in.Target, in.Fill())
	return e, err
}

func traceroute(u *updater, w http.ResponseWriter, r *http.Request) (e errand, err error) {
	in, err := read[diag.Traceroute](w, r)
	if err != nil {
		return e, err
	}
	e = errand{"/v1/traceroute", &in, linesType, "traceroute", in.Target, ""}
	in.Target, err = u.address(r.Context(), in.Target, in.Fill())
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
	watch := diag.Watch{Capture: in, Without: askerOf(r).From}
	return errand{"/v1/capture", watch, pcap.MediaType, "packets captured", in.Zone, in.Filter}, nil
}

// address returns that of a target that may be a name, unless there is an error already.
func (u *updater) address(ctx context.Context, target string, err error) (string, error) {
	if err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "%s", err)
	}
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
// down before that: nobody sees a packet that nobody knows of.
func (u *updater) diagnose(prepare func(*updater, http.ResponseWriter, *http.Request) (errand, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := prepare(u, w, r)
		if err != nil {
			answer(w, nil, err)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // or nobody notices that the client leaves
		resp, err := u.askDiagd(r.Context(), e)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer resp.Body.Close()
		if err := u.record(r, e); err != nil {
			answer(w, nil, refuse(http.StatusServiceUnavailable, "it cannot be written down who asks for that, so it is not done: %s", err))
			return
		}
		w.Header().Set("Content-Type", e.kind)
		conn := http.NewResponseController(w)
		for buf := make([]byte, 32<<10); ; {
			n, err := resp.Body.Read(buf)
			_ = conn.SetWriteDeadline(time.Now().Add(idle)) // a recorder in a test has none
			if _, werr := w.Write(buf[:n]); err != nil || werr != nil {
				return
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
	t := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return sock.Dial(ctx, socket)
	}}
	body, err := json.Marshal(e.in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://diagd"+e.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(req)
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
