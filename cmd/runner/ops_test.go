package main

import (
	"testing"

	"davidcockson.com/runner/internal/ask"
	"davidcockson.com/runner/internal/config"
	"davidcockson.com/runner/internal/provider"
)

func TestEachProbeSaysWhatToDo(t *testing.T) {
	n := &node{conf: &config.Config{StateDir: t.TempDir(), Services: config.Services{Qdrant: "http://127.0.0.1:1", SearXNG: "http://127.0.0.1:1"}}, hosts: []ask.Host{{Name: "davas"}}}
	for _, p := range n.probes() {
		if p.Check != nil && p.Advice == "" {
			t.Errorf("%s: nothing is said of what to do when it is down", p.Name)
		}
	}
}

func TestModelsAreCounted(t *testing.T) {
	for want, listed := range map[string][]provider.Model{
		"answers, and has 0 models": {},
		"answers, and has 1 model":  {{Name: "a"}},
		"answers, and has 2 models": {{Name: "a"}, {Name: "b"}},
	} {
		if ok, got := compareModels(nil, listed); !ok || got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
