package main

import (
	"context"
	"fmt"

	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/provider"
)

// unavailable stands for a configured provider of a kind that this version does
// not have. Notes that ask for it, by name or because it is the first, fail and
// say so: another provider would be a silent fallback.
type unavailable struct {
	name string
	kind config.Kind
}

func (u unavailable) reason() string {
	return fmt.Sprintf("providers of kind %s are not in this version yet", u.kind)
}

// Models lists what a note that names another model is told it could have.
func (u unavailable) Models(context.Context) ([]provider.Model, error) {
	return []provider.Model{{Name: "none, since " + u.reason()}}, nil
}

// Ping succeeds: the host is not away, so that its notes fail and do not wait.
func (u unavailable) Ping(context.Context) error { return nil }

// Ask sends nothing.
func (u unavailable) Ask(_ context.Context, req provider.Request, sink provider.Sink) (provider.Answer, error) {
	sink(provider.Event{Kind: provider.EndEvent, Text: string(provider.Refused)})
	return provider.Answer{Provider: u.name, Model: req.Model}, &provider.Error{Kind: provider.Refused, Provider: u.name, Model: req.Model,
		Reason: u.reason(), Advice: "name a provider of kind ollama or echo in the note, or put one first in the config"}
}
