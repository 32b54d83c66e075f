// Package access decides who gets into the control room.
//
// It promises that a request reaches the wrapped handler only under a name that
// is ours, not from another site's page, and with one of these: an assertion that
// Cloudflare Access signed for this application, a session cookie, a bearer token.
// Who comes by the tunnel or the public name needs the assertion, who comes by
// another name the session or the token; neither stands in for the other. Being on
// loopback proves nothing: tunnels and proxies dial it too, and a plain proxy hides
// where a request came from. A header that names a user is never believed.
//
// What cannot be decided is refused: without Access's keys, or with a password or
// token file that cannot be read, the answer is 503. Failed logins are delayed by
// client, 30 s at most, and never locked; sessions and tokens are untouched by that.
//
// It stores the token of a first start in its file and sessions, by hash, where its
// Sessions keep them. Nothing here renders a page.
package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"davidcockson.com/runner/internal/secret"
)

// Session is one signed-in browser as it is stored.
type Session struct {
	// Hash is the SHA-256 of the cookie's value in hex: who reads the store cannot
	// sign in with it.
	Hash string
	// Seen is the last use, to the hour; Expires is 30 days after it.
	Created, Seen, Expires time.Time
	// Kind says by what the session was opened, "password" or "link", followed by
	// a colon and a fingerprint of that password's hash or that link's token. A
	// session of another password than today's is no session.
	Kind string
}

// Sessions keeps sessions over restarts. It must be safe for concurrent use, and
// may forget those that have expired.
type Sessions interface {
	// SaveSession stores a session that is not there yet.
	SaveSession(context.Context, Session) error
	// Session returns false for a hash that is not stored.
	Session(ctx context.Context, hash string) (Session, bool, error)
	// TouchSession does nothing to a session that is gone.
	TouchSession(ctx context.Context, hash string, seen, expires time.Time) error
	// DeleteSession does nothing to a session that is gone.
	DeleteSession(ctx context.Context, hash string) error
}

// Options say by which names and which proofs one gets in.
type Options struct {
	// PublicURL's host, Hosts (name, or name:port for that port alone), the host of
	// Listen and the loopback names are the names that are answered to. A PublicURL
	// or Hosts need Access, a PasswordFile or a TokenFile.
	PublicURL string
	Hosts     []string
	Listen    string
	// Team and Aud are Cloudflare Access's team and this application's audience
	// tag; both or neither. Team is its name, its domain or its URL.
	Team, Aud string
	// PasswordFile holds a line of HashPassword, TokenFile lines of NewToken; ""
	// for none. Both are read again when they change.
	PasswordFile, TokenFile string
	// StateToken is where the token of a first start lies, used where neither Access
	// nor a file is set.
	StateToken string
	// Sessions may be nil where neither a password nor a link is in use.
	Sessions Sessions
	// Log may be nil for none. No secret is written to it.
	Log *slog.Logger
	// Now is time.Now where it is nil.
	Now func() time.Time
	// Client fetches Access's keys; nil is http.DefaultClient. A fetch takes 5 s at
	// most and follows no redirect, whatever the client would do.
	Client *http.Client
}

// Modes tells by which proofs one can get in here.
type Modes struct {
	Access   bool // by the public name, through Cloudflare Access
	Password bool // by Login
	Tokens   bool // programs, by bearer tokens of the token file
	Link     bool // by Redeem, with the link of Gate.Link, whose token is a bearer token too
}

// Kind is the proof by which a request got in.
type Kind string

const (
	ByAccess  Kind = "access"
	BySession Kind = "session"
	ByToken   Kind = "token"
)

// Identity is who a request comes from. The zero value is nobody, on paths that
// are open.
type Identity struct {
	Kind Kind
	// Key is the same for all requests of one session, Access session or token. It
	// proves nothing and may be logged.
	Key string
	// Email is what Access asserted, "" for its service tokens and all others.
	Email string
}

type identityKey struct{}

// Who returns the identity that Wrap has found.
func Who(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// Gate decides about requests. It is safe for concurrent use and runs no goroutine.
type Gate struct {
	names       names
	public      string // the public name without port, "" for none
	publicHTTPS bool
	listen      string
	access      *verifier          // nil without Access
	password    *watched[password] // nil without a password file
	tokens      *watched[[]token]  // nil without a token file
	link        secret.Key         // zero where Access or a file is set
	sessions    Sessions
	delays      *delays
	hashing     chan struct{} // holds who computes a password's hash
	log         *slog.Logger
	now         func() time.Time
}

// New returns the Gate that options describe. It makes the token of a first start
// where that is in use, and fetches Access's keys where they are: a fetch that
// fails is logged and tried again by requests. An error names the setting that
// must be mended, and shows no secret.
func New(ctx context.Context, o Options) (*Gate, error) {
	g := &Gate{
		listen:   o.Listen,
		sessions: o.Sessions,
		hashing:  make(chan struct{}, hashesAtOnce),
		log:      cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		now:      o.Now,
	}
	if g.now == nil {
		g.now = time.Now
	}
	g.delays = newDelays(g.now)
	if err := g.setNames(o); err != nil {
		return nil, err
	}
	if (o.Team == "") != (o.Aud == "") {
		return nil, errors.New("access: team and aud belong together, and one is missing")
	}
	if err := g.setFiles(o); err != nil {
		return nil, err
	}
	if o.Team != "" {
		var err error
		if g.access, err = newVerifier(o, g.now, g.log); err != nil {
			return nil, err
		}
		g.access.keys.refresh(ctx)
	}
	if m := g.Modes(); !m.Access && !m.Password && !m.Tokens {
		if o.PublicURL != "" || len(o.Hosts) > 0 {
			return nil, errors.New("public_url and hosts need access or auth: who comes by another name than this machine's own must be asked for more than a login link")
		}
		link, err := stateToken(o.StateToken)
		if err != nil {
			return nil, err
		}
		g.link = link
	}
	if m := g.Modes(); o.Sessions == nil && (m.Password || m.Link) {
		return nil, errors.New("sessions: there is nowhere to keep them")
	}
	return g, nil
}

// setNames reads the names that the gate answers to.
func (g *Gate) setNames(o Options) error {
	g.names = names{}
	for _, own := range []string{"localhost", "127.0.0.1", "::1"} {
		g.names.add(own)
	}
	if o.PublicURL != "" {
		u, err := url.Parse(o.PublicURL)
		ok := err == nil && (u.Scheme == "http" || u.Scheme == "https")
		if ok {
			g.public, ok = g.names.add(u.Hostname())
		}
		if !ok {
			return errors.New("public_url: must be an http or https URL with a host, other letters than ASCII as xn--")
		}
		g.publicHTTPS = u.Scheme == "https"
	}
	for _, host := range o.Hosts {
		if _, ok := g.names.add(host); !ok {
			return fmt.Errorf("hosts: %q must be a name, or name:port", host)
		}
	}
	g.names.addListen(o.Listen)
	return nil
}

// setFiles reads the password and token files once, so that what is wrong with
// them stops the start.
func (g *Gate) setFiles(o Options) error {
	if o.PasswordFile != "" {
		g.password = &watched[password]{setting: "auth.password_file", path: o.PasswordFile, parse: parsePassword}
		if _, err := g.password.get(); err != nil {
			return err
		}
	}
	if o.TokenFile != "" {
		g.tokens = &watched[[]token]{setting: "auth.token_file", path: o.TokenFile, parse: parseTokens}
		if _, err := g.tokens.get(); err != nil {
			return err
		}
	}
	return nil
}

// Modes tells the login page what to offer.
func (g *Gate) Modes() Modes {
	return Modes{
		Access:   g.access != nil,
		Password: g.password != nil,
		Tokens:   g.tokens != nil,
		Link:     !g.link.IsZero(),
	}
}

// fingerprint is a short name for a secret or a hash, to tell one from another.
func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
