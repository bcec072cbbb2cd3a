//go:build linux

package sock

import (
	"context"
	"net"
	"sync"
	"time"
)

// retry is how often a socket is tried that cannot be opened.
const retry = time.Second

// Serve answers callers, each of which serve is called for, atOnce at a time, until ctx
// ends. It waits for them and returns ctx's error. It closes a connection when serve
// returns, and when ctx ends.
//
// A socket that cannot be opened is tried again: for a service that it is not the
// point of. trouble hears of each new reason.
func Serve(ctx context.Context, listen func() (net.Listener, error), atOnce int, serve func(net.Conn), trouble func(error)) error {
	for said := ""; ; {
		l, err := listen()
		if err == nil {
			err = accept(ctx, l, atOnce, serve)
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			trouble(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// accept answers until ctx ends or the socket fails.
func accept(ctx context.Context, l net.Listener, atOnce int, serve func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer l.Close()
	slots := make(chan struct{}, atOnce)
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			serve(c)
		})
	}
}
