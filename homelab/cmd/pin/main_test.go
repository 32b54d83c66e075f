package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// shop is a registry on the loopback, which counts what it is asked.
type shop struct {
	host  string
	asked atomic.Int32
}

func open(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/manifests/") {
			s.asked.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// put puts an index under a tag, and returns its digest.
func (s *shop) put(t *testing.T, tagged string) string {
	t.Helper()
	index, err := random.Index(16, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(s.host + "/" + tagged)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// pin runs the program on a file with the text, in which SHOP is the registry, and
// returns what the file has then, the output and the error.
func (s *shop) pin(t *testing.T, path, text string) (string, string, error) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "SHOP", s.host)), 0o640); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := run(t.Context(), []string{path}, &out)
	got, readErr := os.ReadFile(path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return strings.ReplaceAll(string(got), s.host, "SHOP"), out.String(), err
}

func TestPin(t *testing.T) {
	s := open(t)
	one, two := s.put(t, "lib/one:1.2.3"), s.put(t, "two:18.6-alpine")
	old := "sha256:" + strings.Repeat("0", 64)
	for _, row := range []struct{ name, text, want, says, err string }{
		{"a tag gets its digest", "  image: SHOP/lib/one:1.2.3\n", "  image: SHOP/lib/one:1.2.3@" + one + "\n", "written", ""},
		{"comments and quotes stay", "# top\n  image: \"SHOP/two:18.6-alpine\" # why\n  # end\n", "# top\n  image: \"SHOP/two:18.6-alpine@" + two + "\" # why\n  # end\n", "written", ""},
		{"a digest that is right stays, and nothing is said", "image: SHOP/lib/one:1.2.3@" + one + "\n", "image: SHOP/lib/one:1.2.3@" + one + "\n", "", ""},
		{"a digest that moved is replaced, and this is said", "image: SHOP/lib/one:1.2.3@" + old + "\n", "image: SHOP/lib/one:1.2.3@" + one + "\n", "has moved: it was " + old, ""},
		{"a variable is left alone", "image: runner:${RUNNER_VERSION:?}\n", "image: runner:${RUNNER_VERSION:?}\n", "", ""},
		{"a comment is no image", "# image: SHOP/lib/one:1.2.3\n", "# image: SHOP/lib/one:1.2.3\n", "", ""},
		{"what the registry does not have stays, the others are written", "image: SHOP/three:1\nimage: SHOP/two:18.6-alpine\n", "image: SHOP/three:1\nimage: SHOP/two:18.6-alpine@" + two + "\n", "written", "/three:1: ask "},
		{"an image without a tag is refused", "image: SHOP/two\n", "image: SHOP/two\n", "", "/two: it has no tag"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "compose.yaml")
			got, says, err := s.pin(t, path, row.text)
			if got != row.want {
				t.Errorf("the file has\n%s, want\n%s", got, row.want)
			}
			if !strings.Contains(says, row.says) || (row.says == "") != (says == "") {
				t.Errorf("it says %q, want %q", says, row.says)
			}
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("error %v, want %q", err, row.err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestAnImageIsAskedForOnce(t *testing.T) {
	s := open(t)
	s.put(t, "one:1")
	s.asked.Store(0)
	text := "image: SHOP/one:1\nimage: SHOP/one:1\n"
	if _, _, err := s.pin(t, filepath.Join(t.TempDir(), "compose.yaml"), text); err != nil {
		t.Fatal(err)
	}
	if got := s.asked.Load(); got != 1 {
		t.Errorf("the registry was asked %d times", got)
	}
}

func TestAFileInWhichNothingChangesIsNotWritten(t *testing.T) {
	s := open(t)
	s.put(t, "one:1")
	path := filepath.Join(t.TempDir(), "compose.yaml")
	pinned, _, err := s.pin(t, path, "image: SHOP/one:1\n")
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{path}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written anew: %v", err)
	}
	if !strings.Contains(pinned, "@sha256:") {
		t.Errorf("it was not pinned: %s", pinned)
	}
}

func TestAFileThatIsNotThereIsAnError(t *testing.T) {
	if err := run(t.Context(), []string{filepath.Join(t.TempDir(), "none")}, io.Discard); err == nil {
		t.Error("no error")
	}
	if err := run(t.Context(), nil, io.Discard); err == nil {
		t.Error("no error without a file")
	}
}

func TestEveryImageOfTheHomelabIsFound(t *testing.T) {
	for _, host := range []string{"prod-services", "dev-learning", "contabo"} {
		text, err := os.ReadFile(filepath.Join("../..", host, "compose.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(text), "\n    image: ") - strings.Count(string(text), "\n    image: runner:${")
		found := image.FindAllStringSubmatch(string(text), -1)
		if len(found) != lines || lines == 0 {
			t.Errorf("%s: %d of %d images", host, len(found), lines)
		}
		for _, parts := range found {
			if tag, err := name.NewTag(strings.Split(parts[2], "@")[0]); err != nil || tag.TagStr() == "latest" {
				t.Errorf("%s: %s: %v", host, parts[2], err)
			}
		}
	}
}
