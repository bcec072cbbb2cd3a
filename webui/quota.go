//go:build linux

package webui

import "sync"

// quota bounds how many of something there are at once, in all and of each.
type quota[K comparable] struct {
	all, each int

	mu    sync.Mutex
	total int
	by    map[K]int
}

// enter reports whether there is room for another one of k, which leaves again then.
func (q *quota[K]) enter(k K) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= q.all || q.by[k] >= q.each {
		return false
	}
	if q.by == nil {
		q.by = make(map[K]int)
	}
	q.total++
	q.by[k]++
	return true
}

func (q *quota[K]) leave(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.by[k]--; q.by[k] == 0 {
		delete(q.by, k)
	}
}
