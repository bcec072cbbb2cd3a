package lease

import "fmt"

// Check returns what is inconsistent in t.
func (t *Table) Check() error {
	for i, e := range t.waiting {
		if e.index != i || e.State == Free || t.byAddr[e.Addr] != e {
			return fmt.Errorf("waiting[%d]: %+v", i, *e)
		}
	}
	free := 0
	for e := t.free.first; e != nil; e = e.next {
		free++
		if e.State != Free || t.byAddr[e.Addr] != e || !t.inPool(e.Addr) {
			return fmt.Errorf("free: %+v", *e)
		}
		if e.next == nil && t.free.last != e {
			return fmt.Errorf("the free list does not end at its end")
		}
	}
	if len(t.waiting)+free != len(t.byAddr) {
		return fmt.Errorf("%d waiting and %d free of %d", len(t.waiting), free, len(t.byAddr))
	}
	declined := 0
	for addr, e := range t.byAddr {
		if e.Addr != addr {
			return fmt.Errorf("%s is under %s", e.Addr, addr)
		}
		if e.State == Declined {
			declined++
		}
	}
	if declined != t.declined {
		return fmt.Errorf("%d declined, counted %d", declined, t.declined)
	}
	for key, e := range t.byClient {
		if e.key != key || t.byAddr[e.Addr] != e {
			return fmt.Errorf("client %q: %+v", key, *e)
		}
	}
	return nil
}
