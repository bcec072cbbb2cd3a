package conf

// Keys returns the keys of every mapping of the language, and whether each is
// required.
func Keys() map[string]map[string]bool {
	all := make(map[string]map[string]bool, len(tables))
	for table, keys := range tables {
		all[table] = make(map[string]bool, len(keys))
		for _, k := range keys {
			all[table][k.name] = k.required
		}
	}
	return all
}
