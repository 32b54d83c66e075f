package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"davidcockson.com/runner/internal/provider"
)

// Caps bounds what may be spent with paid providers. Day caps count from
// midnight in the owner's zone, jobs and chat together; job caps count one run.
// nil is no cap.
type Caps struct {
	JobTokens, DayTokens *int
	JobUSD, DayUSD       *float64
}

// Any says whether there is a cap at all.
func (c Caps) Any() bool {
	return c.JobTokens != nil || c.DayTokens != nil || c.JobUSD != nil || c.DayUSD != nil
}

// Price is what a provider takes for a million tokens read and written, in US
// dollars.
type Price struct{ In, Out float64 }

// Cost is the price of an amount of tokens, in US dollars.
func (p Price) Cost(read, written int) float64 {
	return (float64(read)*p.In + float64(written)*p.Out) / 1e6
}

// Scope says which cap a call would break.
type Scope string

// The scopes.
const (
	JobCap Scope = "job" // this run's own
	DayCap Scope = "day" // the day's, with what was spent already
	// AloneCap: the call alone is more than a whole day may spend.
	AloneCap Scope = "alone"
)

// CapError is the error of an intent that a cap forbids. Nothing was written.
type CapError struct {
	Scope Scope
	// Reason names the cap, what was spent and what the call would need.
	Reason string
	// DayTokens and DayUSD are what the day had spent, open intents included. Once
	// it is less, since a call turned out cheaper, the call may fit.
	DayTokens int
	DayUSD    float64
}

// Error returns the reason.
func (e *CapError) Error() string { return e.Reason }

// Allowance is what an intent is checked against, in its own transaction, so that
// two calls at once cannot both pass.
type Allowance struct {
	Caps Caps
	// Day is the midnight from which the day counts.
	Day time.Time
}

// Spending is what was spent, an open intent counting with its estimate.
type Spending struct {
	Tokens int
	USD    float64
	// EstimatedTokens and EstimatedUSD are the part of it that is an estimate: calls
	// that are under way, or whose provider told no count.
	EstimatedTokens int
	EstimatedUSD    float64
}

// spent sums up what was spent.
func spent(ctx context.Context, q querier, where string, args ...any) (Spending, error) {
	var s Spending
	err := q.QueryRowContext(ctx, `SELECT coalesce(sum(spent_tokens), 0), coalesce(sum(spent_usd), 0),
		coalesce(sum(spent_tokens * estimated), 0), coalesce(sum(spent_usd * estimated), 0.0) FROM spending WHERE paid = 1 AND `+where, args...).
		Scan(&s.Tokens, &s.USD, &s.EstimatedTokens, &s.EstimatedUSD)
	return s, err
}

// Spent is what was spent with paid providers since a moment: tokens read and
// written, and US dollars.
func (l *Ledger) Spent(ctx context.Context, since time.Time) (Spending, error) {
	s, err := spent(ctx, l.db.Read, "started >= ?", millis(since))
	if err != nil {
		return Spending{}, fmt.Errorf("sum up what was spent: %w", err)
	}
	return s, nil
}

// allow says whether a paid call fits all caps.
func allow(ctx context.Context, tx *sql.Tx, ref Ref, c Call, a Allowance) error {
	if !c.Paid || !a.Caps.Any() {
		return nil
	}
	day, err := spent(ctx, tx, "started >= ?", millis(a.Day))
	if err != nil {
		return err
	}
	run, err := spent(ctx, tx, "job = ? AND run = ?", ref.ID, ref.Run)
	if err != nil {
		return err
	}
	if e := a.Caps.Forbid(c, run, day); e != nil {
		return e
	}
	return nil
}

// Forbid says which cap a paid call would break after what its run and the day have
// spent, nil for none: the job's own first, since no day changes that.
func (caps Caps) Forbid(c Call, run, day Spending) *CapError {
	tokens, usd := float64(c.SpentTokens), c.SpentUSD
	checks := []struct {
		scope                  Scope
		what                   string
		limit                  float64
		used, estimated, wants float64
		show                   func(float64) string
	}{
		{JobCap, "caps.job_tokens", limitOf(caps.JobTokens), float64(run.Tokens), float64(run.EstimatedTokens), tokens, count},
		{JobCap, "caps.job_usd", limitUSD(caps.JobUSD), run.USD, run.EstimatedUSD, usd, dollars},
		{AloneCap, "caps.day_tokens", limitOf(caps.DayTokens), 0, 0, tokens, count},
		{AloneCap, "caps.day_usd", limitUSD(caps.DayUSD), 0, 0, usd, dollars},
		{DayCap, "caps.day_tokens", limitOf(caps.DayTokens), float64(day.Tokens), float64(day.EstimatedTokens), tokens, count},
		{DayCap, "caps.day_usd", limitUSD(caps.DayUSD), day.USD, day.EstimatedUSD, usd, dollars},
	}
	for _, k := range checks {
		if k.used+k.wants > k.limit {
			return &CapError{Scope: k.scope, DayTokens: day.Tokens, DayUSD: day.USD,
				Reason: fmt.Sprintf("%s is %s: %s spent%s, and this call needs about %s", k.what, k.show(k.limit), k.show(k.used), ofWhich(k.estimated, k.show), k.show(k.wants))}
		}
	}
	return nil
}

// Reached says which cap of the day leaves nothing to spend, "" for none.
func (caps Caps) Reached(day Spending) string {
	switch {
	case caps.DayTokens != nil && day.Tokens >= *caps.DayTokens:
		return fmt.Sprintf("caps.day_tokens is %d: %d spent%s", *caps.DayTokens, day.Tokens, ofWhich(float64(day.EstimatedTokens), count))
	case caps.DayUSD != nil && day.USD >= *caps.DayUSD:
		return fmt.Sprintf("caps.day_usd is $%.4f: $%.4f spent%s", *caps.DayUSD, day.USD, ofWhich(day.EstimatedUSD, dollars))
	}
	return ""
}

// ofWhich says how much of an amount may turn out to be less.
func ofWhich(estimated float64, show func(float64) string) string {
	if estimated == 0 {
		return ""
	}
	return fmt.Sprintf(", %s of it estimates of calls under way or without a count", show(estimated))
}

// accounting is how the end of a call changes what it counts for: to nothing if it
// was not billed, to the tokens that the provider says if it does; else to the
// estimate of the prompt, or its count where that alone was told, and of what has
// come; if nothing has, the intent's estimate stays.
type accounting struct {
	set  string
	args []any
}

// margin is by how much what has come counts for more than its likely tokens: code and
// scripts without blanks come to up to twice that, and the caps must not see less than
// was used.
const margin = 2

func spentBy(billed bool, a provider.Answer, price Price) accounting {
	read, used, came := a.Usage.Read, a.Usage.Read+a.Usage.Written, 0
	if a.Usage.Written == 0 {
		came = margin * provider.Likely([]provider.Message{{Content: a.Thinking}, {Content: a.Text}})
	}
	if came > 0 {
		used = 0 // what is told is not all: the prompt's count may come before the answer's
	}
	return accounting{
		`spent_tokens = CASE WHEN NOT ? OR paid = 0 THEN 0 WHEN ? > 0 THEN ? WHEN ? > 0 THEN iif(? > 0, ?, estimate) + ? ELSE spent_tokens END,
		spent_usd = CASE WHEN NOT ? OR paid = 0 THEN 0 WHEN ? > 0 THEN ? WHEN ? > 0 THEN iif(? > 0, ?, estimate) * ? + ? ELSE spent_usd END`,
		[]any{billed, used, used, came, read, read, came,
			billed, used, price.Cost(a.Usage.Read, a.Usage.Written), came, read, read, price.Cost(1, 0), price.Cost(0, came)},
	}
}

func limitOf(n *int) float64 {
	if n == nil {
		return math.Inf(1)
	}
	return float64(*n)
}

func limitUSD(x *float64) float64 {
	if x == nil {
		return math.Inf(1)
	}
	return *x
}

func count(x float64) string   { return fmt.Sprintf("%.0f tokens", x) }
func dollars(x float64) string { return fmt.Sprintf("$%.4f", x) }
