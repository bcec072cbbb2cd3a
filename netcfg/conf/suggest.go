package conf

import (
	"fmt"
	"strings"
)

// suggester finds what somebody meant by a name that does not exist. It works
// against a budget, because every name of a large file may be wrong.
type suggester struct {
	left int // comparisons
	seen map[string]string
}

// maxComparisons is enough for a thousand wrong names in a large configuration.
const maxComparisons = 1 << 20

// nearest returns the candidate that is nearest to word, or "" if none is near. The
// kind keeps apart what may be named by the same word.
func (s *suggester) nearest(kind, word string, candidates []string) string {
	id := kind + "\x00" + word
	if best, ok := s.seen[id]; ok {
		return best
	}
	if s.left -= len(candidates); s.left < 0 || len(word) > 64 {
		return ""
	}
	best := nearest(word, candidates)
	if s.seen == nil {
		s.seen = make(map[string]string)
	}
	s.seen[id] = best
	return best
}

func nearest(word string, candidates []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "_", "-")
	best, least := "", 1+min(3, max(1, len(word)/3))
	for _, c := range candidates {
		if diff := len(c) - len(word); diff >= least || -diff >= least {
			continue
		}
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours
// that make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur, prev, old := rows[i%3], rows[(i+2)%3], rows[(i+1)%3]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], old[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

// enumerate lists names for a hint: a, b and c. Of many it lists the first few.
func enumerate(names []string) string {
	const most = 12
	switch n := len(names); {
	case n == 0:
		return "none"
	case n == 1:
		return names[0]
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}
