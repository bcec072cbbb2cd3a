//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkhead/images/lab"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/api"
)

// The load on those who follow connections: bursts of new ones, each made and forgotten
// as fast as the kernel can.
const (
	bursts     = 5
	flowsMade  = bursts * packetsPerTurn
	flowRounds = 7 // at most: the values differ little
)

// maxFollow is what following a connection may cost.
const maxFollow = 15 * time.Microsecond

// follower is a program that follows connections, with what was measured.
type follower struct {
	name  string
	start func(f *follower, p *path, o Options) error

	dir      string
	cmd      *exec.Cmd
	followed func() (int, error) // connections whose end it knows

	cpu  []float64 // µs per connection that was followed
	lost []float64 // of all, in percent
}

// flows measures what following connections costs, beside others who do so, and how many
// of them each misses. They take turns, with the same load.
func flows(ctx context.Context, w *lab.World, o Options) (err error) {
	p, err := newPath(w, "flows")
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.setUp(5, ""); err != nil {
		return err
	}
	followers := []*follower{
		{name: "flowd", start: (*follower).startFlowd},
		{name: "conntrack -E", start: (*follower).startConntrack},
		{name: "ulogd2", start: (*follower).startUlogd},
	}
	var rates []float64
	for round := range min(o.Rounds, flowRounds) {
		for _, f := range followers {
			if err := ctx.Err(); err != nil {
				return err
			}
			f.dir = filepath.Join(w.Dir, fmt.Sprintf("flows-%d-%s", round, strings.Fields(f.name)[0]))
			rate, err := f.measure(p, o)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			rates = append(rates, rate)
		}
	}
	own := median(followers[0].cpu)
	rows := [][]string{{"", "CPU per connection", "times flowd's", "lost", ""}}
	for i, f := range followers {
		note := ""
		if i == 0 {
			limit := float64(maxFollow.Microseconds())
			note = target(own < limit && median(f.lost) == 0, fmt.Sprintf("less than %.0f µs, none lost", limit))
		}
		rows = append(rows, []string{
			f.name, fmt.Sprintf("%.1f µs", median(f.cpu)), fmt.Sprintf("%.2f", median(f.cpu)/own), fmt.Sprintf("%.2f %%", median(f.lost)), note,
		})
	}
	table(o.W, fmt.Sprintf("Following connections, medians of %d rounds", min(o.Rounds, flowRounds)), rows)
	fmt.Fprintf(o.W, `  %d connections in %d bursts, made at %.0f a second and forgotten all at once.
  conntrack and ulogd write a line for each, without names; flowd keeps them on the disk.
`, flowsMade, bursts, median(rates))
	return nil
}

// measure has a follower follow the load and returns how many connections were made in a
// second.
func (f *follower) measure(p *path, o Options) (rate float64, err error) {
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.dir)) }()
	if err := lab.ForgetConnections(p.Host); err != nil {
		return 0, err
	}
	if err := f.start(f, p, o); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	first, err := f.settled(0)
	if err != nil {
		return 0, err
	}
	before, err := cpuTime(f.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var ns float64
	for range bursts {
		one, err := p.send(packetsPerTurn, true)
		if err != nil {
			return 0, err
		}
		ns += one / bursts
		if err := lab.ForgetConnections(p.Host); err != nil {
			return 0, err
		}
	}
	last, err := f.settled(first + flowsMade)
	if err != nil {
		return 0, err
	}
	after, err := cpuTime(f.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	n := last - first
	if n <= 0 {
		return 0, errors.New("it follows none")
	}
	f.cpu = append(f.cpu, float64((after-before).Microseconds())/float64(n))
	f.lost = append(f.lost, 100*float64(flowsMade-n)/flowsMade)
	return 1e9 / ns, nil
}

// settled returns how many connections were followed, when they are as many as are
// expected or do not get more.
func (f *follower) settled(expected int) (int, error) {
	last, since := -1, time.Now()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		n, err := f.followed()
		switch {
		case err != nil && time.Since(begun) > 10*time.Second:
			return 0, err
		case err != nil:
			continue
		case n != last:
			last, since = n, time.Now()
		}
		if expected > 0 && n >= expected || time.Since(since) > 2*time.Second {
			return n, nil
		}
	}
}

func (f *follower) stop() error {
	err := f.cmd.Process.Signal(syscall.SIGTERM)
	_ = f.cmd.Wait() // by that signal
	return err
}

// run starts the program on the gateway, with its output in a file.
func (f *follower) run(p *path, name string, args ...string) error {
	out, err := os.Create(filepath.Join(f.dir, "out"))
	if err != nil {
		return err
	}
	defer out.Close()
	f.cmd = exec.Command(name, args...)
	f.cmd.Stdout, f.cmd.Stderr = out, out
	return p.Start(f.cmd)
}

func (f *follower) startFlowd(p *path, o Options) error {
	c, err := compileFile(Config(5))
	if err != nil {
		return err
	}
	data, err := json.Marshal(c.Flow)
	if err != nil {
		return err
	}
	runDir := filepath.Join(f.dir, "run")
	if err := f.run(p, filepath.Join(o.Bin, "flowd"), "-run", runDir, "-state", filepath.Join(f.dir, "state")); err != nil {
		return err
	}
	own := filepath.Join(runDir, svcconf.Flowd.Name)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(own, svcconf.FlowsSocket))
	}}}
	f.followed = func() (int, error) {
		resp, err := client.Get("http://flowd/v1/flows/status")
		if err != nil {
			// It makes the directory, and waits for its configuration.
			return 0, errors.Join(err, os.WriteFile(filepath.Join(own, "config.json"), data, 0o644))
		}
		defer resp.Body.Close()
		var s api.Status
		err = json.NewDecoder(resp.Body).Decode(&s)
		return int(s.Store.Appended), err
	}
	return nil
}

func (f *follower) startConntrack(p *path, _ Options) error {
	f.followed = f.lines
	return f.run(p, "conntrack", "-E", "-e", "NEW,DESTROY")
}

// ulogdConf has ulogd join the beginning and the end of connections, as flowd does.
const ulogdConf = `[global]
logfile="%[1]s/ulogd.log"
loglevel=5
plugin="%[2]s/ulogd_inpflow_NFCT.so"
plugin="%[2]s/ulogd_filter_IP2STR.so"
plugin="%[2]s/ulogd_filter_PRINTFLOW.so"
plugin="%[2]s/ulogd_output_LOGEMU.so"
stack=ct1:NFCT,ip2str1:IP2STR,print1:PRINTFLOW,emu1:LOGEMU
[ct1]
[emu1]
file="%[1]s/out"
sync=1
`

func (f *follower) startUlogd(p *path, _ Options) error {
	plugins, err := filepath.Glob("/usr/lib/*/ulogd/ulogd_inpflow_NFCT.so")
	if err != nil || len(plugins) == 0 {
		return errors.New("ulogd2 is not there: run .ci/deps test")
	}
	conf := filepath.Join(f.dir, "ulogd.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, ulogdConf, f.dir, filepath.Dir(plugins[0])), 0o644); err != nil {
		return err
	}
	f.followed = f.lines
	return f.run(p, "ulogd", "-c", conf)
}

// lines counts the ends of connections in what a program has written.
func (f *follower) lines() (int, error) {
	data, err := os.ReadFile(filepath.Join(f.dir, "out"))
	return bytes.Count(data, []byte("[DESTROY]")), err
}

// cpuTime is what a process has used, for itself and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	const hz = 100 // USER_HZ: the same on all machines that Linux runs on here
	const user, system = 13, 14
	_, rest, _ := bytes.Cut(data, []byte(") "))
	fields := strings.Fields(string(rest))
	var ticks int
	for _, i := range []int{user - 2, system - 2} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / hz, nil
}
