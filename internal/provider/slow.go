package provider

import "time"

// slow is a time in which a provider's places are given to nobody. It is the
// line's as long as the line points to it; guarded by the arbiter's lock.
type slow struct {
	until  time.Time
	reason string
	timer  *time.Timer
}

// Slow lets no further call begin at the named provider until then, an
// interactive one neither; calls that have their place go on. Of several the
// latest counts, with its reason; a time that is over, such as the zero one, ends
// it at once and stops its timer. When it ends, those who wait are served, and
// Freed is signalled for places that are left. A name that is not configured is
// ignored: there is nothing to slow down.
func (a *Arbiter) Slow(provider string, until time.Time, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.lines[provider]
	if !ok {
		return
	}
	length := until.Sub(a.now())
	switch {
	case length <= 0:
		a.lift(l)
		return
	case l.slow != nil && !until.After(l.slow.until):
		return
	case l.slow != nil:
		l.slow.timer.Stop()
	}
	s := &slow{until: until, reason: reason}
	l.slow = s
	s.timer = time.AfterFunc(length, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if l.slow == s { // and no later one has taken its place while this waited for the lock
			a.lift(l)
		}
	})
}

// Slowed is until when the named provider's places are given to nobody, and why; the
// zero time while they are given out.
func (a *Arbiter) Slowed(provider string) (until time.Time, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.lines[provider]; ok && l.slow != nil {
		return l.slow.until, l.slow.reason
	}
	return time.Time{}, ""
}

// lift ends a slow time. The caller holds the lock.
func (a *Arbiter) lift(l *line) {
	if l.slow == nil {
		return
	}
	l.slow.timer.Stop()
	l.slow = nil
	a.serve(l)
}
