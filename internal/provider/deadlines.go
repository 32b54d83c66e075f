package provider

import "time"

// Deadlines bound how long a provider may say nothing. A provider names the one
// that struck, with its length, in Error.Reason, and its key in the
// configuration in Error.Advice. All must be positive, but PerPromptToken, where
// 0 means that the length of a prompt buys no time.
type Deadlines struct {
	// Connect bounds one attempt to connect, and a Ping as a whole.
	Connect time.Duration
	// Load bounds the loading of a model, where the server tells it apart.
	Load time.Duration
	// FirstByte bounds the silence between the request, made of a loaded model,
	// and the first byte of its answer. PerPromptToken is added to it for each
	// estimated token of the prompt: a server reads in silence.
	FirstByte      time.Duration
	PerPromptToken time.Duration
	// Silence bounds the time between two pieces of an answer.
	Silence time.Duration
}

// DefaultDeadlines returns the limits of a server at home: a CPU reads 10 to 30
// tokens of prompt a second, and a large model takes minutes to load.
func DefaultDeadlines() Deadlines {
	return Deadlines{
		Connect:        10 * time.Second,
		Load:           10 * time.Minute,
		FirstByte:      120 * time.Second,
		PerPromptToken: 100 * time.Millisecond,
		Silence:        60 * time.Second,
	}
}

// ForPrompt is the limit for the first byte of an answer to a prompt of the
// given estimated number of tokens.
func (d Deadlines) ForPrompt(tokens int) time.Duration {
	return d.FirstByte + time.Duration(tokens)*d.PerPromptToken
}
