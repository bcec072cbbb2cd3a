package access

// Guests returns how many addresses a claim remembers.
func Guests(c *Claim) int { return len(c.guests) }

// Decode reads a file of tokens into the store.
func (s *Store) Decode(data []byte) error { return s.decode(data) }
