package config

import (
	"log/slog"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// value is how one scalar is read. No value is ever repeated in an error: it may
// be a secret in the wrong place.
type value struct {
	// tags are the YAML types under which it may be written.
	tags []string
	// want ends the sentence "KEY: must be …".
	want string
	// set stores the value that text stands for, or says that it is none.
	set func(text string) bool
}

func text(p *string) value {
	return value{
		tags: []string{"!!str"},
		want: "one line of text, in quotes where it looks like a number, a date or true",
		set: func(text string) bool {
			*p = text
			return oneLine(text)
		},
	}
}

// oneLine says that text holds no control character, which neither a path nor a
// header nor a log line could carry.
func oneLine(text string) bool { return !strings.ContainsFunc(text, unicode.IsControl) }

// path makes a relative path absolute, from dir. A leading ~ would become a
// folder of that name, so it is no path.
func path(p *string, dir string) value {
	return value{
		tags: []string{"!!str"},
		want: "a path, in which ~ is not expanded",
		set: func(text string) bool {
			if !oneLine(text) || strings.HasPrefix(text, "~") {
				return false
			}
			*p = absolute(text, dir)
			return true
		},
	}
}

func absolute(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func oneOf[T ~string](p *T, choices ...T) value {
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	last := len(words) - 1
	return value{
		tags: []string{"!!str"},
		want: strings.Join(words[:last], ", ") + " or " + words[last],
		set: func(text string) bool {
			*p = T(text)
			return slices.Contains(choices, T(text))
		},
	}
}

func level(p *slog.Level) value {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return value{
		tags: []string{"!!str"},
		want: "debug, info, warn or error",
		set: func(text string) bool {
			l, ok := levels[text]
			*p = l
			return ok
		},
	}
}

func whole(p *int, least int) value {
	return value{
		tags: []string{"!!int"},
		want: "a whole number of at least " + strconv.Itoa(least),
		set: func(text string) bool {
			n, err := strconv.Atoi(text)
			if err != nil || n < least {
				return false
			}
			*p = n
			return true
		},
	}
}

func count(p **int) value {
	var n int
	v := whole(&n, 0)
	set := v.set
	v.set = func(text string) bool {
		*p = &n
		return set(text)
	}
	return v
}

func amount(p **float64) value {
	return value{
		tags: []string{"!!int", "!!float"},
		want: "an amount of US dollars such as 0.59, not negative",
		set: func(text string) bool {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
				return false
			}
			*p = &n
			return true
		},
	}
}

func duration(p *time.Duration, least time.Duration) value {
	want := "a duration such as 2s or 10m, above zero"
	if least == 0 {
		want = "a duration such as 2s or 10m, not negative"
	}
	return value{
		tags: []string{"!!str", "!!int"}, // 0 needs no unit and is a YAML integer
		want: want,
		set: func(text string) bool {
			d, err := time.ParseDuration(text)
			if err != nil || d < least {
				return false
			}
			*p = d
			return true
		},
	}
}

func zone(p **time.Location) value {
	return value{
		tags: []string{"!!str"},
		want: "a time zone such as Europe/London",
		set: func(text string) bool {
			zone, err := time.LoadLocation(text)
			if err != nil {
				return false
			}
			*p = zone
			return true
		},
	}
}

func address(p *string) value {
	return value{
		tags: []string{"!!str"},
		want: "a host and port such as 127.0.0.1:8080",
		set: func(text string) bool {
			_, port, err := net.SplitHostPort(text)
			if err != nil || !oneLine(text) {
				return false
			}
			*p = text
			_, err = strconv.ParseUint(port, 10, 16)
			return err == nil
		},
	}
}

// webURL takes a base URL. Credentials and queries are refused, because URLs get
// into error texts; secrets have keys of their own.
func webURL(p *string) value {
	return value{
		tags: []string{"!!str"},
		want: "an http or https URL without user, query or fragment",
		set: func(text string) bool {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
				u.User != nil || strings.ContainsAny(text, "?# ") {
				return false
			}
			*p = text
			return true
		},
	}
}

// webhook says what is wrong with the URL of a webhook, whose path is a secret, without
// showing it; "" for nothing. Discord's own look so:
// https://discord.com/api/webhooks/ID/TOKEN.
func webhook(text string) string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.Trim(u.Path, "/") == "" {
		return "must hold a webhook's whole URL such as https://discord.com/api/webhooks/…"
	}
	host := strings.ToLower(u.Hostname())
	local := host == "localhost" || net.ParseIP(host).IsLoopback()
	discord := host == "discordapp.com" || host == "discord.com" || strings.HasSuffix(host, ".discord.com")
	switch {
	case u.Scheme != "https" && !(u.Scheme == "http" && local):
		return "must hold a URL that begins with https://, since its path is a secret"
	case discord && !webhookPath.MatchString(u.Path):
		return "must hold a URL whose path is that of a webhook: copy it again"
	}
	return ""
}

var webhookPath = regexp.MustCompile(`^/api(/v\d+)?/webhooks/\d+/[\w-]+$`)

var providerNames = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

func providerName(p *string) value {
	return value{
		tags: []string{"!!str"},
		want: "a name of a to z, 0 to 9, dot, dash and underscore that begins with a letter or digit",
		set: func(text string) bool {
			*p = text
			return providerNames.MatchString(text)
		},
	}
}
