package ledger

import (
	"context"
	"fmt"
	"time"
)

// awayKey begins the names under which the ledger knows since when a provider is away.
const awayKey = "unreachable since "

// Away says that a provider cannot be asked now, and returns since when it is so: what
// the first said who found it so, also in another process or before a start, until
// somebody says that it is Back.
func (l *Ledger) Away(ctx context.Context, provider string, now time.Time) (time.Time, error) {
	value, err := l.Meta(ctx, awayKey+provider)
	if err != nil {
		return now, err
	}
	if since, err := time.Parse(time.RFC3339Nano, value); err == nil {
		return since, nil
	}
	if err := l.SetMeta(ctx, awayKey+provider, now.UTC().Format(time.RFC3339Nano)); err != nil {
		return now, fmt.Errorf("remember since when %s is away: %w", provider, err)
	}
	return now, nil
}

// Back says that a provider has answered. It writes only where it was away.
func (l *Ledger) Back(ctx context.Context, provider string) error {
	value, err := l.Meta(ctx, awayKey+provider)
	if err != nil || value == "" {
		return err
	}
	return l.SetMeta(ctx, awayKey+provider, "")
}
