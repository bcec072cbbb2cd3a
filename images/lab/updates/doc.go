// Package updates tests updates of the whole image in a virtual machine: good ones are
// kept, and whatever else a new system does, the old one comes back by itself. So does
// one of the two when the power is cut at any instant.
//
// Two machines run at a time. On a computer that has other work to do, they and all that is
// waited for may take BULKHEAD_SLOW times longer.
package updates
