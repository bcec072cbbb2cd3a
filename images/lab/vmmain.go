//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// vmSettleTime is settleTime for a box that has to boot first, in emulation.
const vmSettleTime = 5 * time.Minute

// RunVMOptions says what [RunVM] does.
type RunVMOptions struct {
	VMOptions
	Once    bool   // end after the matrix
	Command string // how to call the program, for advice: "sudo bin/bulkhead"
}

// RunVM is the lab with a virtual machine as people see it: see [Run].
func RunVM(ctx context.Context, w *World, o RunVMOptions) (err error) {
	p := o.Printer
	p.Title("The lab, with %s on %s", filepath.Base(o.Image), o.File)
	starting, cancel := context.WithTimeout(ctx, vmSettleTime)
	defer cancel()
	l, err := StartVM(starting, w, o.VMOptions)
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
		l.lookIntoBox(p, o.Command)
		select {
		case <-ctx.Done():
			fmt.Fprintln(p.W)
		case <-l.Box.Done():
			return errors.Join(errors.New("the box has switched itself off"), l.logs())
		}
	}
	if len(m.Wrong) > 0 {
		return ErrWrong
	}
	return nil
}

// lookIntoBox says what to try next.
func (l *Lab) lookIntoBox(p *Printer, command string) {
	p.Title("Look around, in another terminal")
	owner, other := l.owner().Name, l.Clients[0]
	for _, line := range []string{
		owner + " -- bulkhead --box " + profileName + " show zones",
		owner + " -- curl -k " + l.URL(),
		other.Name + " -- dig " + l.Config.System.Name + "." + l.Config.System.Domain,
		other.Name + " -- ping -c1 " + other.Zone.Gateway.String(),
		"outside -- ping -c1 -W1 " + l.Uplink.Addr().String(),
	} {
		p.Line("%s lab exec %s", command, line)
	}
	p.Line("")
	p.Line("The box is at %s for those in %s.", l.URL(), l.owner().Zone.Name)
	p.Line("Hosts: internet outside far%s", l.names())
	p.Line("Logs:  %s/*.log, that of the box's console is box.log", os.Getenv(worldEnv))
	p.Line("Ctrl-C ends the lab.")
}
