package provider

import "time"

// Pace is a provider's wish, told by its rate-limit headers or beside a refusal,
// that no further call begins before Until. Reason says why, in one line for the
// owner, without a secret.
type Pace struct {
	Until  time.Time
	Reason string
}
