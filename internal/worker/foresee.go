package worker

import (
	"context"
	"fmt"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/job"
	"davidcockson.com/runner/internal/jobtype"
	"davidcockson.com/runner/internal/ledger"
	"davidcockson.com/runner/internal/prepare"
	"davidcockson.com/runner/internal/provider"
	"davidcockson.com/runner/internal/queue"
)

// Asked is a request that a job would make. Step counts from 1.
type Asked struct {
	Step     int
	Provider string
	Request  provider.Request
}

// Intent is what the request would count for the caps before it is made, at a paid
// host with that price.
func (a Asked) Intent(price ledger.Price) ledger.Call {
	read, written := ask.Likely(a.Request)
	return ledger.Call{Step: a.Step, Provider: a.Provider, Model: a.Request.Model, Paid: true, SpentTokens: read + written, SpentUSD: price.Cost(read, written)}
}

// Foresee tells what a job would ask if each call were answered, without asking
// anybody: of a later step the answers before it are stood in for by a few words.
// The spec has its context in it already.
func Foresee(ctx context.Context, spec job.Spec) ([]Asked, error) {
	runner, err := jobtype.For(spec.Type)
	if err != nil {
		return nil, err
	}
	var l listener
	j := job.Job{Type: spec.Type, System: spec.System, Temperature: spec.Temperature, MaxTokens: spec.MaxTokens, Preamble: spec.Preamble, Steps: spec.Steps}
	_, err = runner.Run(ctx, j, &l, func(provider.Event) {})
	return l.asked, err
}

// listener notes what it is asked.
type listener struct{ asked []Asked }

func (l *listener) Ask(_ context.Context, step int, name string, req provider.Request, _ provider.Sink) (provider.Answer, error) {
	l.asked = append(l.asked, Asked{step, name, req})
	return provider.Answer{Text: fmt.Sprintf("(the answer to step %d)", step), Provider: name, Model: req.Model}, nil
}

// foreseen is what is known of a note that waits for the day's cap.
type foreseen struct {
	sum [32]byte
	end *ledger.End // a cap forbids its first call on any day, nil if none does
}

// overCap says how a note ends whose first call no day would allow, nil if the day
// alone stands against it or it is still being looked at. A job that was put back has
// been held against its caps by the call itself.
func (w *Worker) overCap(ctx context.Context, h *host, it *queue.Item) *ledger.End {
	if known, ok := w.foreseen[it.Name]; ok && known.sum == it.Sum {
		return known.end
	}
	name, sum := it.Name, it.Sum
	w.foreseen[name] = foreseen{sum: sum}
	if _, waited := w.rows[name]; waited {
		return nil
	}
	w.group.Go(func() error {
		end := w.lookAhead(ctx, h.Host, name, sum)
		if end != nil {
			_ = w.request(ctx, func(context.Context) { w.foreseen[name] = foreseen{sum, end} }) // else the worker stops
		}
		return nil
	})
	return nil
}

// lookAhead holds the first call of a note against the caps that no midnight lifts.
// What else is wrong with the note shows when it has its turn.
func (w *Worker) lookAhead(ctx context.Context, h ask.Host, name string, sum [32]byte) *ledger.End {
	l, err := w.queue.Load(name)
	if err != nil || l.Sum != sum {
		return nil
	}
	spec, _, err := prepare.Inline(ctx, l.Spec, w.o.Vault, w.index)
	if err != nil {
		return nil
	}
	asked, err := Foresee(ctx, spec)
	if err != nil || len(asked) == 0 {
		return nil
	}
	first := asked[0].Intent(h.Prices[asked[0].Request.Model])
	if e := w.o.Caps.Forbid(first, ledger.Spending{}, ledger.Spending{}); e != nil {
		end := capEnd(e)
		return &end
	}
	return nil
}
