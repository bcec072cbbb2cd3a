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
	c := impact.Change{New: sideOf(next), Now: now, Author: from.Address, Live: true}
	if c.Old = sideOf(r.last.result); r.last.result == nil {
		c.Old.Policy = policy.New(nothing(), policy.Env{Now: now})
	}
	c.Leases, _ = r.leases.read() // what is wrong with them, the status says
	judge := judgeOf(next.Policy, absent(next))
	err := r.o.Conntrack.Each(func(conn apply.Conn) {
		if keep, _ := judge(conn); !keep {
			c.Ends = append(c.Ends, open(conn))
		}
	})
	if err != nil {
		r.o.Log.Error("a plan counts fewer connections than it cuts", "err", err)
	}
	return c
}

func sideOf(r *compile.Result) impact.Side {
	if r == nil {
		return impact.Side{}
	}
	return impact.Side{Policy: r.Policy, State: r.State, Missing: r.Missing}
}

func open(c apply.Conn) impact.Conn {
	port := c.Orig.DstPort
	if c.Orig.Proto == model.ProtoICMP {
		port = uint16(c.Orig.Type)
	}
	return impact.Conn{Src: c.Orig.Src, Dst: c.Reply.Src, Proto: c.Orig.Proto, Port: port, Mark: c.Mark}
}
