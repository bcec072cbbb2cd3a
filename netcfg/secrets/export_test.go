package secrets

// Decode is for fuzzing: what it takes must come out as it went in.
func Decode(data []byte) (*content, error) { return decode(data) }
