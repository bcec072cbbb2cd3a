package api

// Deeds returns what is called how in the audit log.
func Deeds() map[string]string { return deeds }
