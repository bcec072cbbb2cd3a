package api

import (
	"context"
	"net/http"
	"time"

	"bulkhead/services/auth/audit"
)

// Recorder keeps what somebody did. A [Client] of authd does, for daemons that run as root.
type Recorder interface {
	Record(ctx context.Context, e audit.Entry) error
}

// Record writes something down: see [audit.Entry]. authd says when it was.
func (c *Client) Record(ctx context.Context, e audit.Entry) error {
	return c.Call(ctx, Asker{}, "POST", "/v1/audit", e, nil)
}

// recordTime bounds how long an answer waits until it is written down what was done.
const recordTime = 2 * time.Second

// Recorded serves h and, if it succeeds, has written down who did what. It does so before
// the request ends, and whether or not whoever asked waits for the answer.
//
// That it could not be written undoes nothing: authd, who would know why, is the one to say.
func Recorded(g Guard, e audit.Entry, h http.Handler) http.Handler {
	rec, ok := g.(Recorder)
	if !ok {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &outcome{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(out, r)
		if out.status >= http.StatusBadRequest {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTime)
		defer cancel()
		_ = rec.Record(ctx, e)
	})
}

// outcome notes how an answer begins.
type outcome struct {
	http.ResponseWriter
	status int
}

func (o *outcome) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (o *outcome) Unwrap() http.ResponseWriter { return o.ResponseWriter }
