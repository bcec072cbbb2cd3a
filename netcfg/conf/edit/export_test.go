package edit

import "strings"

// Astray is an edit that changes a word of the text, and means nothing by it.
func Astray(word, other string) Edit {
	return Edit{
		steps: []step{func(d *doc) ([]splice, error) {
			at := strings.Index(d.text, word)
			return []splice{{at, at + len(word), other}}, nil
		}},
		means: func(list []leaf) []leaf { return list },
	}
}
