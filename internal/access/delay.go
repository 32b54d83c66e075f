package access

import (
	"net/netip"
	"sync"
	"time"
)

const (
	firstDelay   = time.Second // after a client's first failed login; doubled with each
	longestDelay = 30 * time.Second
	// forgetAfter is the quiet time after which a client begins anew.
	forgetAfter = 10 * time.Minute
	// mostClients bounds the memory; beyond it the client that has been quiet for
	// longest is forgotten.
	mostClients = 4096
)

// delays slows down who fails to log in. Nobody is locked out: after its delay each
// client may try again, whatever it or others did.
type delays struct {
	now func() time.Time

	mu      sync.Mutex // guards clients
	clients map[netip.Prefix]failures
}

type failures struct {
	next time.Duration // the delay that the next try brings
	last time.Time     // of the last try
	till time.Time     // no try before
}

func newDelays(now func() time.Time) *delays {
	return &delays{now: now, clients: make(map[netip.Prefix]failures)}
}

// begin returns how long a client must wait, or 0: it may try now. A try is charged
// as a failure until forgive takes that back, so that many tries at once gain
// nothing.
func (d *delays) begin(client netip.Prefix) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	f, known := d.clients[client]
	if wait := f.till.Sub(now); known && wait > 0 {
		return wait
	}
	if !known || now.Sub(f.last) >= forgetAfter {
		f.next = firstDelay
	}
	if !known && len(d.clients) >= mostClients {
		d.makeRoom()
	}
	d.clients[client] = failures{next: min(2*f.next, longestDelay), last: now, till: now.Add(f.next)}
	return 0
}

// makeRoom forgets the client whose last try is the oldest. The caller holds mu.
func (d *delays) makeRoom() {
	var oldest netip.Prefix
	var last time.Time
	for client, f := range d.clients {
		if last.IsZero() || f.last.Before(last) {
			oldest, last = client, f.last
		}
	}
	delete(d.clients, oldest)
}

// forgive forgets a client that has logged in.
func (d *delays) forgive(client netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.clients, client)
}
