//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// serveInternet starts what the internet offers: dnsmasq as the uplink's DHCP
// server and as a name server that knows one name, and a web server. They end with
// the context; the returned function waits for that.
func (l *Lab) serveInternet(ctx context.Context) (wait func(), err error) {
	inet := l.internetAddr()
	web, err := l.serveWeb(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--interface=eth0", "--bind-interfaces", "--cache-size=0",
		"--host-record=" + internetDomain + "," + inet.Addr().String(),
		"--host-record=far.example.com," + farAddr.String(),
		"--local=/#/", // NXDOMAIN for all others: there is nobody to ask
		"--log-queries", "--log-dhcp",
	}
	if inet == internetNet {
		args = append(args, "--dhcp-authoritative", "--no-ping",
			fmt.Sprintf("--dhcp-range=%s,%s,255.255.255.0,1h", uplinkFirst, uplinkLast),
			"--dhcp-leasefile="+filepath.Join(l.World.Dir, "uplink.leases"))
	}
	_, done, err := l.supervise(ctx, l.Internet, "dnsmasq", args...)
	if err != nil {
		return nil, err
	}
	return func() { <-done; web() }, nil
}

// serveWeb answers every request on port 80 with one line.
func (l *Lab) serveWeb(ctx context.Context) (wait func(), err error) {
	var ln net.Listener
	err = l.Internet.Do(func() error {
		ln, err = net.Listen("tcp4", ":80")
		return err
	})
	if err != nil {
		return nil, err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "This is %s, and you are %s.\n", internetDomain, r.RemoteAddr)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours alone
		}
	}()
	context.AfterFunc(ctx, func() { srv.Close() })
	return func() { <-done }, nil
}

// background starts a program in the host that ends with the context.
func (l *Lab) background(ctx context.Context, h *Host, logName string, cmd *exec.Cmd) (<-chan struct{}, error) {
	log, err := newLogFile(filepath.Join(l.World.Dir, logName+".log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := h.Start(cmd); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	go func() {
		defer close(done)
		_ = cmd.Wait() // its log says why
		stop()
		log.Close()
	}()
	return done, nil
}
