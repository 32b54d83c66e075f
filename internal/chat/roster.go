package chat

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/provider"
)

// Offer is a provider with the models that may be asked, as it was last seen.
type Offer struct {
	Provider string `json:"provider"`
	Kind     string `json:"kind"`
	Paid     bool   `json:"paid,omitempty"`
	// Up says that it answered; Word is how it is, Reason why it did not answer, Since
	// when that began: of one that is away as the ledger knows it.
	Up     bool      `json:"up"`
	Word   string    `json:"state"` // online, not asked yet, or one of provider's words
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// Models are those that may be asked, the default first: those of the
	// configuration, or where it names none those that the provider listed last, by
	// name.
	Models []Model `json:"models"`
	// Loaded are those in its memory, also such as may not be asked.
	Loaded []string `json:"-"`
}

// Model is a model that may be asked.
type Model struct {
	provider.Model
	// Missing says of a configured model that its provider does not list it.
	Missing bool `json:"missing,omitempty"`
}

// Absences remember since when providers are away, for all that look at them.
type Absences interface {
	// Away says that one is, and returns since when.
	Away(ctx context.Context, provider string, now time.Time) (since time.Time, err error)
	Back(ctx context.Context, provider string) error
}

// Roster looks at all providers, which costs nothing, and remembers what it saw. It
// is safe for concurrent use.
type Roster struct {
	hosts    []ask.Host
	absences Absences
	log      *slog.Logger
	now      func() time.Time

	mu      sync.Mutex
	seen    []Offer
	at      time.Time
	looking chan struct{} // closed at the end of the look under way; nil without one
}

const (
	lookTime  = 5 * time.Second  // for one look at all providers
	freshTime = 15 * time.Second // a look is believed
)

// NewRoster returns a Roster that has seen nothing yet.
func NewRoster(hosts []ask.Host, absences Absences, log *slog.Logger) *Roster {
	return &Roster{hosts: hosts, absences: absences, log: log, now: time.Now}
}

// Offers tells what the providers offer: what was seen while it is fresh, else what
// a new look sees. When ctx ends first it is what was seen before.
func (r *Roster) Offers(ctx context.Context) []Offer {
	r.mu.Lock()
	if r.now().Sub(r.at) < freshTime && r.seen != nil {
		defer r.mu.Unlock()
		return r.seen
	}
	if r.looking == nil {
		r.looking = make(chan struct{})
		go r.look(context.WithoutCancel(ctx), r.looking)
	}
	done := r.looking
	r.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil { // nobody has answered yet
		return r.unseen()
	}
	return r.seen
}

func (r *Roster) unseen() []Offer {
	all := make([]Offer, len(r.hosts))
	for i, h := range r.hosts {
		all[i] = Offer{Provider: h.Name, Kind: h.Kind, Paid: h.Paid, Word: "not asked yet", Reason: "not asked yet", Models: named(h.Models)}
	}
	return all
}

// look asks all providers at once.
func (r *Roster) look(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	all := make([]Offer, len(r.hosts))
	r.mu.Lock()
	before := r.seen
	r.mu.Unlock()
	var wait sync.WaitGroup
	for i, h := range r.hosts {
		var known []Model
		if before != nil {
			known = before[i].Models
		}
		wait.Go(func() { all[i] = offer(ctx, h, known) })
	}
	wait.Wait()
	now := r.now()
	away := make([]time.Time, len(all))
	for i := range all {
		away[i] = r.remember(context.WithoutCancel(ctx), all[i], now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range all {
		all[i].Since = now
		if r.seen != nil && r.seen[i].Up == all[i].Up {
			all[i].Since = r.seen[i].Since
		}
		if !all[i].Up {
			all[i].Since = away[i]
		}
	}
	r.seen, r.at, r.looking = all, now, nil
	close(done)
}

// remember returns since when a provider is away, which is now where nobody knew.
func (r *Roster) remember(ctx context.Context, o Offer, now time.Time) time.Time {
	since, err := now, error(nil)
	if o.Up {
		err = r.absences.Back(ctx, o.Provider)
	} else {
		since, err = r.absences.Away(ctx, o.Provider, now)
	}
	if err != nil {
		r.log.Error("remember since when a provider is away", "provider", o.Provider, "error", err)
	}
	return since
}

// offer looks at a provider. known are its models as they were seen last, which are
// offered on while it is away: what was chosen stays to be chosen.
func offer(ctx context.Context, h ask.Host, known []Model) Offer {
	o := Offer{Provider: h.Name, Kind: h.Kind, Paid: h.Paid}
	listed, err := h.Provider.Models(ctx)
	if err != nil {
		o.Reason, o.Word, o.Models = err.Error(), provider.WordUnreachable, named(h.Models)
		if e := ask.AsError(err); e != nil {
			o.Reason, o.Word = e.Reason, e.Kind.Word()
		}
		if len(h.Models) == 0 {
			o.Models = append(o.Models, known...)
		}
		for i := range o.Models {
			o.Models[i].Loaded = false
		}
		return o
	}
	o.Up, o.Word, o.Models = true, "online", askable(h.Models, listed)
	for _, m := range listed {
		if m.Loaded {
			o.Loaded = append(o.Loaded, m.Name)
		}
	}
	return o
}

// askable are the configuration's models, in its order, with what the provider says
// of them; where it has none, all that the provider lists, by name: some list them by
// their last change.
func askable(names []string, listed []provider.Model) []Model {
	all := named(names)
	for i := range all {
		at := slices.IndexFunc(listed, func(m provider.Model) bool { return provider.SameModel(m.Name, all[i].Name) })
		if all[i].Missing = at < 0; !all[i].Missing {
			name := all[i].Name
			all[i].Model = listed[at]
			all[i].Name = name
		}
	}
	if len(names) == 0 {
		for _, m := range listed {
			all = append(all, Model{Model: m})
		}
		slices.SortFunc(all, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	}
	return all
}

func named(names []string) []Model {
	all := make([]Model, len(names))
	for i, name := range names {
		all[i].Name = name
	}
	return all
}
