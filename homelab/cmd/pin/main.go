// Pin writes the digests of images into compose files.
//
//	go run ./cmd/pin prod-services/compose.yaml dev-learning/compose.yaml contabo/compose.yaml
//
// It asks each image's registry which digest the tag has now (of the index, so it holds
// for every platform), and writes it behind the tag: nginx:1.30.4-alpine@sha256:… A
// digest that is there already is replaced, with a line that says so: a full version
// should not move, so look at why it did. Nothing else in a file changes, and a file in
// which nothing changes is not written. Images named by a variable are left alone.
//
// An image whose registry does not answer stays as it was; the others are still written,
// and the exit code is 1. Logins are those of docker (~/.docker/config.json).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, files []string, out io.Writer) error {
	if len(files) == 0 || strings.HasPrefix(files[0], "-") {
		return errors.New("usage: pin COMPOSE-FILE ...\nIt writes the digest of each image, as its registry has it now, behind the tag")
	}
	p := &pinner{out: out, known: make(map[string]answer)}
	var failed []error
	for _, file := range files {
		failed = append(failed, p.file(ctx, file))
	}
	return errors.Join(failed...)
}

// pinner asks for each image once. It is not safe for concurrent use.
type pinner struct {
	out   io.Writer
	known map[string]answer // by image and tag
}

type answer struct {
	digest string
	err    error
}

// image is a line that names one: what stands before, the name, and what follows it.
var image = regexp.MustCompile(`(?m)^(\s*image:\s*["']?)([^\s"'#$]+)(["']?\s*(?:#.*)?)$`)

// file pins the images of one compose file.
func (p *pinner) file(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var failed []error
	pinned := image.ReplaceAllStringFunc(string(text), func(line string) string {
		parts := image.FindStringSubmatch(line)
		tagged, before, _ := strings.Cut(parts[2], "@")
		digest, err := p.digest(ctx, tagged)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %s: %w", path, tagged, err))
			return line
		}
		if before != "" && before != digest {
			fmt.Fprintf(p.out, "%s: %s has moved: it was %s\n", path, tagged, before)
		}
		return parts[1] + tagged + "@" + digest + parts[3]
	})
	if pinned != string(text) {
		if err := replace(path, pinned, info.Mode().Perm()); err != nil {
			failed = append(failed, fmt.Errorf("write %s: %w", path, err))
		} else {
			fmt.Fprintf(p.out, "%s: written\n", path)
		}
	}
	return errors.Join(failed...)
}

// digest asks the image's registry, once.
func (p *pinner) digest(ctx context.Context, tagged string) (string, error) {
	if got, ok := p.known[tagged]; ok {
		return got.digest, got.err
	}
	digest, err := resolve(ctx, tagged)
	p.known[tagged] = answer{digest, err}
	return digest, err
}

// wait is how long a registry has for its answer.
const wait = 30 * time.Second

func resolve(ctx context.Context, tagged string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if strings.LastIndex(tagged, ":") <= strings.LastIndex(tagged, "/") {
		return "", errors.New("it has no tag")
	}
	tag, err := name.NewTag(tagged)
	if err != nil {
		return "", err
	}
	// Some registries answer HEAD without a digest; the library then fails, and asks no
	// further.
	descriptor, err := remote.Head(tag, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", tag.RegistryStr(), err)
	}
	return descriptor.Digest.String(), nil
}

// replace puts text in the place of a file, at once.
func replace(path, text string, mode os.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".pin-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
