package inventory_test

import (
	"fmt"
	"testing"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/inventory"
	"bulkhead/services/flow/record"
)

// BenchmarkRecords is what a record costs, of which most are of known devices that do as
// always.
func BenchmarkRecords(b *testing.B) {
	v := inventory.New(start, inventory.Lists{})
	v.Configure(config())
	list := make([]record.Record, 256)
	for i := range list {
		list[i] = allowed(later, fmt.Sprintf("198.51.100.%d", i%50), uint16(443+i%3))
		if i%8 == 0 {
			list[i] = refused(later, fmt.Sprintf("192.168.40.%d", i%100+2), record.Side{Zone: model.Internet, Addr: addr("9.9.9.9"), Port: 853})
		}
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		v.Records(later, list[n%len(list):n%len(list)+1])
	}
}
