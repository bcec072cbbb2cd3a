//go:build linux

package reconcile

import (
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// impact gathers what is known about a change to what was compiled, asked for from
// somewhere, at a time.
func (r *Reconciler) impact(next *compile.Result, now time.Time, from api.Origin) impact.Change {
	c := r.changeTo(next, now, from)
	var err error
	if c.Ends, err = Ends(next, r.o.Conntrack.Each); err != nil {
		r.o.Log.Error("a plan counts fewer connections than it cuts", "err", err)
	}
	return c
}

// changeTo is the same without the connections that end.
func (r *Reconciler) changeTo(next *compile.Result, now time.Time, from api.Origin) impact.Change {
	c := impact.Change{New: Side(next), Now: now, Author: from.Address, Live: true}
	if r.last.result != nil {
		c.Old = Side(r.last.result)
	} else {
		c.Old.Policy = policy.New(nothing(), policy.Env{Now: now})
	}
	c.Leases, _ = r.leases.read() // what is wrong with them, the status says
	return c
}

// Side is what was compiled, as one side of a change.
func Side(r *compile.Result) impact.Side {
	return impact.Side{Policy: r.Policy, State: r.State, Missing: r.Missing}
}

// Ends lists those of all connections that a configuration ends when it comes into
// force: the very ones that the sweep will not keep. An error leaves some out.
func Ends(next *compile.Result, each func(func(apply.Conn)) error) ([]impact.Conn, error) {
	var ends []impact.Conn
	judge := judgeOf(next.Policy, absent(next))
	err := each(func(c apply.Conn) {
		if keep, _ := judge(c); !keep {
			ends = append(ends, open(c))
		}
	})
	return ends, err
}

func open(c apply.Conn) impact.Conn {
	port := c.Orig.DstPort
	if c.Orig.Proto == model.ProtoICMP {
		port = uint16(c.Orig.Type)
	}
	return impact.Conn{Src: c.Orig.Src, Dst: c.Reply.Src, Proto: c.Orig.Proto, Port: port, Mark: c.Mark}
}
