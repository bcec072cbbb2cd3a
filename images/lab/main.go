//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// settleTime is how long everything may take to come up before the lab gives up.
const settleTime = 60 * time.Second

// ErrWrong says that packets were treated otherwise than the policy says.
var ErrWrong = errors.New("the gateway does not do what the policy says")

// RunOptions says what [Run] does.
type RunOptions struct {
	Options
	Once    bool   // end after the matrix
	Command string // how to call the program, for advice: "sudo bin/bulkhead"
}

// Run is the lab as people see it. It tells what happens, prints the zone matrix,
// says how to look around and stays until the context ends; with Once it ends
// after the matrix. The error is [ErrWrong] if a cell is wrong.
func Run(ctx context.Context, w *World, o RunOptions) (err error) {
	p := o.Printer
	p.Title("The lab, with %s", o.File)
	starting, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	l, err := Start(starting, w, o.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	pol, err := l.Policy(starting)
	if err != nil {
		return err
	}
	m, err := l.Matrix(starting, pol)
	if err != nil {
		return errors.Join(err, l.logs())
	}
	p.Matrix(m)
	p.Wrong(m.Wrong)
	p.Open(m)
	if !o.Once {
		l.lookAround(p, o.Command)
		<-ctx.Done()
		fmt.Fprintln(p.W)
	}
	if len(m.Wrong) > 0 {
		return ErrWrong
	}
	return nil
}

// lookAround says what to try next, with names that exist in this lab.
func (l *Lab) lookAround(p *Printer, command string) {
	p.Title("Look around, in another terminal")
	target, name := internetDomain, ""
	for _, c := range l.Clients {
		if c.Device == nil {
			continue
		}
		if name = c.Name; target == internetDomain {
			target = c.Device.Name + "." + l.Config.System.Domain
		}
	}
	if name == "" {
		name = l.Clients[0].Name
	}
	for _, line := range []string{
		name + " -- dig " + target,
		name + " -- bash",
		"gw -- bulkhead show zones",
		"gw -- nft list table inet bulkhead",
		"outside -- ping -c1 " + l.Uplink.Addr().String(),
	} {
		p.Line("%s lab exec %s", command, line)
	}
	p.Line("")
	p.Line("Hosts: gw internet outside far%s", l.names())
	p.Line("Logs:  %s/*.log", os.Getenv(worldEnv))
	p.Line("Ctrl-C ends the lab.")
}

func (l *Lab) names() (s string) {
	for _, c := range l.Clients {
		s += " " + c.Name
	}
	return s
}
