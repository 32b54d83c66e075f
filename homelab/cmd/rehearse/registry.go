package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.yaml.in/yaml/v3"
)

var stacks = []string{"prod-services", "dev-learning", "contabo"}

// stackImages are the images that the compose files name, by stack and service; one that a
// variable names is made here, and left out.
func stackImages(tree string) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	for _, stack := range stacks {
		text, err := os.ReadFile(filepath.Join(tree, stack, "compose.yaml"))
		if err != nil {
			return nil, err
		}
		var project struct {
			Services map[string]struct{ Image string }
		}
		if err := yaml.Unmarshal(text, &project); err != nil {
			return nil, fmt.Errorf("read the images of %s: %w", stack, err)
		}
		all[stack] = map[string]string{}
		for service, one := range project.Services {
			if !strings.Contains(one.Image, "$") {
				all[stack][service] = one.Image
			}
		}
	}
	return all, nil
}

// fetched is where the images of registries are noted for the world, by their names.
const fetched = "fetched.json"

// fetch gets the true images from registries that are in reach, as archives in folder. Of
// those that it does not get a stand-in is used: that no registry answers is no fault.
func fetch(ctx context.Context, tree, folder string, options ...name.Option) (int, error) {
	all, err := stackImages(tree)
	if err != nil {
		return 0, err
	}
	images := map[string]bool{}
	for _, services := range all {
		for _, image := range services {
			images[image] = true
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, "images"), 0o755); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	got := map[string]string{}
	for n, image := range slices.Sorted(maps.Keys(images)) {
		group.Go(func() {
			archive := filepath.Join(folder, "images", fmt.Sprintf("%d.tar", n))
			err := fetchOne(ctx, image, archive, options)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got[image] = archive
			} else if !errors.Is(err, errNoRegistry) {
				fmt.Printf("   %s: %v\n", image, err)
			}
		})
	}
	group.Wait()
	text, err := json.Marshal(slices.Sorted(maps.Keys(got)))
	if err != nil {
		return 0, err
	}
	return len(got), os.WriteFile(filepath.Join(folder, fetched), text, 0o644)
}

var errNoRegistry = errors.New("its registry does not answer")

func fetchOne(ctx context.Context, image, archive string, options []name.Option) error {
	tag, err := name.NewTag(strings.Split(image, "@")[0], options...)
	if err != nil {
		return err
	}
	platform := remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := remote.Head(tag, remote.WithContext(asked)); err != nil {
		return fmt.Errorf("%w: %w", errNoRegistry, err)
	}
	loading, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	got, err := remote.Image(tag, remote.WithContext(loading), platform)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, tag, got)
}

// overrides are the rehearsal's changes to a stack's project, without those to services whose
// true image is there: of these only the network stays changed.
func overrides(text []byte, images map[string]string, truly map[string]bool) ([]byte, error) {
	var project yaml.Node
	if err := yaml.Unmarshal(text, &project); err != nil {
		return nil, err
	}
	services := child(project.Content[0], "services")
	if services == nil {
		return nil, errors.New("it has no services")
	}
	for i := 0; i < len(services.Content); i += 2 {
		if image, ok := images[services.Content[i].Value]; !ok || !truly[image] {
			continue
		}
		one := services.Content[i+1]
		network := child(one, "network_mode")
		if merged := child(one, "<<"); network == nil && merged != nil && merged.Alias != nil {
			network = child(merged.Alias, "network_mode")
		}
		one.Content = nil
		if network != nil {
			one.Content = []*yaml.Node{{Kind: yaml.ScalarNode, Value: "network_mode"}, network}
		}
	}
	// Indented as compose files are: upgrade.yml looks for lines of that form.
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := errors.Join(encoder.Encode(&project), encoder.Close())
	return out.Bytes(), err
}

// child is the value of a key of a mapping, nil if there is none.
func child(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// loadFetched gives the engine the true images, and notes which they are.
func (w *world) loadFetched(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(w.folder, fetched))
	if err != nil {
		return err
	}
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return err
	}
	archives, err := filepath.Glob(w.folder + "/images/*.tar")
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if _, err := w.do(ctx, "docker", "load", "--quiet", "--input", archive); err != nil {
			return err
		}
	}
	w.truly = map[string]bool{}
	for _, image := range names {
		w.truly[image] = true
	}
	return nil
}

// writeOverrides lays each stack's changes beside where its compose.yaml will be.
func (w *world) writeOverrides() error {
	all, err := stackImages(w.tree)
	if err != nil {
		return err
	}
	for _, stack := range stacks {
		text, err := os.ReadFile(filepath.Join(w.tree, "rehearsal", stack+".yaml"))
		if err != nil {
			return err
		}
		if len(w.truly) > 0 {
			if text, err = overrides(text, all[stack], w.truly); err != nil {
				return fmt.Errorf("the changes to %s: %w", stack, err)
			}
		}
		if err := os.MkdirAll(folderOf(stack), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folderOf(stack), "compose.override.yaml"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
