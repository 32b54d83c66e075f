package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.yaml.in/yaml/v3"
)

// A registry that has one of two images: that one is fetched, and nothing is said to be wrong.
func TestFetchTakesWhatARegistryHas(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	there, err := name.NewTag(address+"/there:1.2", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(there, image); err != nil {
		t.Fatal(err)
	}
	tree, folder := t.TempDir(), t.TempDir()
	for _, stack := range stacks {
		write(t, filepath.Join(tree, stack, "compose.yaml"), "services:\n  a: {image: "+address+"/there:1.2}\n  b: {image: "+address+"/away:1.0}\n  c: {image: \"runner:${V}\"}\n")
	}
	count, err := fetch(context.Background(), tree, folder, name.Insecure)
	if err != nil || count != 1 {
		t.Fatalf("%d, %v", count, err)
	}
	text, err := os.ReadFile(filepath.Join(folder, fetched))
	if err != nil || string(text) != `["`+address+`/there:1.2"]` {
		t.Errorf("%s, %v", text, err)
	}
	if archives, err := filepath.Glob(folder + "/images/*.tar"); err != nil || len(archives) != 1 {
		t.Errorf("%v, %v", archives, err)
	}
}

func TestOverridesLeaveATrueImageAlone(t *testing.T) {
	const text = `x-standin: &standin
  image: rehearsal/standin:1.0.0
  network_mode: container:contabo
services:
  runner:
    network_mode: container:contabo
  cloudflared:
    <<: *standin
    command: [cloudflared]
  node-exporter:
    <<: *standin
    devices: !reset []
`
	images := map[string]string{"cloudflared": "cf:1", "node-exporter": "ne:1"}
	got, err := overrides([]byte(text), images, map[string]bool{"cf:1": true})
	if err != nil {
		t.Fatal(err)
	}
	var project struct {
		Services map[string]struct {
			Image       string
			NetworkMode string `yaml:"network_mode"`
			Command     []string
		}
	}
	if err := yaml.Unmarshal(got, &project); err != nil {
		t.Fatal(err)
	}
	if one := project.Services["cloudflared"]; one.Image != "" || one.Command != nil || one.NetworkMode != "container:contabo" {
		t.Errorf("its true image is there: %+v", one)
	}
	if one := project.Services["node-exporter"]; one.Image != "rehearsal/standin:1.0.0" || !strings.Contains(string(got), "!reset") {
		t.Errorf("it has no image of its own: %+v\n%s", one, got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
