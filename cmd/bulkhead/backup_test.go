package main

import (
	"bulkhead/netcfg/api"
)

// keeper is that of a box.
type keeper struct{ api.Keeper }
