package access

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	assertionHeader = "Cf-Access-Jwt-Assertion"
	// leeway is how far Cloudflare's clock and ours may differ.
	leeway = time.Minute
	// longestAssertion in bytes; Cloudflare's are about 1 KiB.
	longestAssertion = 16 << 10
)

// Each reason by which an assertion is refused. Only one that has expired is mended
// by signing in again: hence 401 there, so that a page says "signed out".
var (
	assertionMissing  = &refusal{status: http.StatusForbidden, reason: "the request came by the public name or a tunnel without Cloudflare Access's assertion"}
	assertionMangled  = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion is not one signed by RS256"}
	assertionUnknown  = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion is signed by a key that its team does not have"}
	assertionForged   = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion has a wrong signature"}
	assertionForeign  = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion is of another team; compare access.team"}
	assertionAudience = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion is for another application; compare access.aud"}
	assertionEarly    = &refusal{status: http.StatusForbidden, reason: "Cloudflare Access's assertion is not valid yet; compare the clocks"}
	assertionExpired  = &refusal{status: http.StatusUnauthorized, reason: "signed out: Cloudflare Access's session has expired; reload the page"}
	assertionNoKeys   = &refusal{status: http.StatusServiceUnavailable, reason: "Cloudflare Access's keys cannot be fetched; the log says why", retryAfter: 60}
)

// verifier checks the assertions that Cloudflare Access puts on requests
// (developers.cloudflare.com, "Validate JWTs").
type verifier struct {
	issuer, aud string
	keys        *keySet
	now         func() time.Time
}

var teamName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func newVerifier(o Options, now func() time.Time, log *slog.Logger) (*verifier, error) {
	team := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(o.Team), "https://"), "/")
	team = strings.TrimSuffix(team, ".cloudflareaccess.com")
	if !teamName.MatchString(team) {
		return nil, errors.New("access.team: must be the team's name, as in TEAM.cloudflareaccess.com")
	}
	issuer := "https://" + team + ".cloudflareaccess.com"
	return &verifier{issuer: issuer, aud: o.Aud, keys: newKeySet(issuer+"/cdn-cgi/access/certs", o.Client, now, log), now: now}, nil
}

// verify returns who Access says the request comes from, or a refusal. Errors of
// the library are not passed on: they may quote the assertion.
func (v *verifier) verify(r *http.Request) (Identity, *refusal) {
	given := r.Header.Values(assertionHeader)
	if len(given) != 1 || given[0] == "" {
		return Identity{}, assertionMissing
	}
	if len(given[0]) > longestAssertion {
		return Identity{}, assertionMangled
	}
	// The algorithm is ours to choose, never the assertion's: "none" and HS256 with
	// the public key as secret are the known forgeries.
	assertion, err := jwt.ParseSigned(given[0], []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(assertion.Headers) != 1 || assertion.Headers[0].KeyID == "" {
		return Identity{}, assertionMangled
	}
	key, why := v.keys.find(r.Context(), assertion.Headers[0].KeyID)
	if why != nil {
		return Identity{}, why
	}
	var claims jwt.Claims
	var who struct {
		Email string `json:"email"`
	}
	if err := assertion.Claims(key, &claims, &who); err != nil {
		return Identity{}, assertionForged
	}
	if why := v.judge(claims); why != nil {
		return Identity{}, why
	}
	return Identity{Kind: ByAccess, Key: "access:" + fingerprint(given[0]), Email: who.Email}, nil
}

// judge checks the claims of an assertion whose signature is right.
func (v *verifier) judge(claims jwt.Claims) *refusal {
	if claims.Expiry == nil { // the library takes it for one that never expires
		return assertionExpired
	}
	err := claims.ValidateWithLeeway(jwt.Expected{Issuer: v.issuer, AnyAudience: jwt.Audience{v.aud}, Time: v.now()}, leeway)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return assertionForeign
	case errors.Is(err, jwt.ErrInvalidAudience):
		return assertionAudience
	case errors.Is(err, jwt.ErrExpired):
		return assertionExpired
	default:
		return assertionEarly
	}
}
