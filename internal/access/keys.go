package access

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysFresh is how long keys are used without asking again. Access changes its
	// key about every 6 weeks, and the old one stays valid for 7 days.
	keysFresh = time.Hour
	// keysPause is the shortest time between two fetches, so that a flood of unknown
	// key ids becomes no flood of fetches.
	keysPause = time.Minute
	keysTime  = 5 * time.Second // for a fetch
	keysSize  = 256 << 10       // bytes of an answer; Cloudflare's are about 6 KiB
)

// keySet is the public keys of an Access team. Keys that are known stay in use
// while a fetch fails. Requests fetch; those with a known key wait for no other's
// fetch.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	mu             sync.Mutex // guards what follows
	keys           map[string]*rsa.PublicKey
	fetched, tried time.Time
	done           chan struct{} // closed when the fetch ends that began at tried
}

func newKeySet(url string, client *http.Client, now func() time.Time, log *slog.Logger) *keySet {
	if client == nil {
		client = http.DefaultClient
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keySet{url: url, client: &own, now: now, log: log}
}

// find returns the key with which Access signs under an id, or why there is none.
func (s *keySet) find(ctx context.Context, id string) (*rsa.PublicKey, *refusal) {
	key, fresh, _ := s.look(id)
	if key != nil && fresh {
		return key, nil
	}
	// The fetch goes on without whoever asked, or clients could spend each minute's
	// try by hanging up.
	if running := s.refresh(context.WithoutCancel(ctx)); key == nil {
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
	key, _, some := s.look(id)
	switch {
	case key != nil:
		return key, nil
	case some:
		return nil, assertionUnknown
	default:
		return nil, assertionNoKeys
	}
}

// look returns the key of an id, nil if it is unknown, whether the keys are fresh,
// and whether there are any.
func (s *keySet) look(id string) (key *rsa.PublicKey, fresh, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[id], s.now().Sub(s.fetched) < keysFresh, len(s.keys) > 0
}

// refresh fetches the keys, or leaves it at a fetch that began within the last
// minute. The channel is closed once that one has ended.
func (s *keySet) refresh(ctx context.Context) <-chan struct{} {
	done, ours := s.begin()
	if !ours {
		return done
	}
	defer close(done)
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.log.Warn("Cloudflare Access's keys cannot be fetched; known ones stay in use", "reason", err)
	} else {
		s.keys, s.fetched = keys, s.now()
	}
	return done
}

// begin reports whether the caller must fetch now.
func (s *keySet) begin() (done chan struct{}, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.done != nil && now.Sub(s.tried) < keysPause {
		return s.done, false
	}
	s.tried, s.done = now, make(chan struct{})
	return s.done, true
}

// fetch asks Access for its keys.
func (s *keySet) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the keys: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the keys: %w", err)
	}
	defer resp.Body.Close() // only read: nothing can be lost by closing
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for the keys at %s: the answer is %s", s.url, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, keysSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	if len(body) > keysSize {
		return nil, fmt.Errorf("read the keys: the answer is larger than %d KiB", keysSize>>10)
	}
	return parseKeys(body)
}

// parseKeys takes the RSA signing keys of a JSON Web Key Set (RFC 7517) and leaves
// out all others. A set without one is an error.
func parseKeys(body []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"` // one by one: a kind that is new to us spoils no other
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			continue
		}
		key, isRSA := k.Key.(*rsa.PublicKey)
		if !isRSA || k.KeyID == "" || (k.Use != "" && k.Use != "sig") || (k.Algorithm != "" && k.Algorithm != string(jose.RS256)) {
			continue
		}
		keys[k.KeyID] = key
	}
	if len(keys) == 0 {
		return nil, errors.New("read the keys: there is none for RS256 among them")
	}
	return keys, nil
}
