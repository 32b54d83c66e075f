package static

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func ask(method, target string, header http.Header) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Header = header
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

// Each row of the README is: `file` | … | `checksum`.
var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| `([0-9a-f]{64})` \\|$")

func TestVendoredFilesAreThoseOfTheREADME(t *testing.T) {
	readme, err := os.ReadFile("vendor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, columns := range row.FindAllStringSubmatch(string(readme), -1) {
		sums[columns[1]] = columns[2]
	}
	entries, err := os.ReadDir("vendor")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(sums)+1 {
		t.Errorf("%d files, %d rows in the README", len(entries)-1, len(sums))
	}
	for _, entry := range entries {
		if entry.Name() == "README.md" {
			continue
		}
		content, err := os.ReadFile("vendor/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if got := hex.EncodeToString(sum[:]); got != sums[entry.Name()] {
			t.Errorf("%s has the checksum %s, the README says %q", entry.Name(), got, sums[entry.Name()])
		}
	}
}

func TestFilesAreServedByTheirPath(t *testing.T) {
	for name, kind := range map[string]string{
		"app.css":              "text/css; charset=utf-8",
		"syntax.css":           "text/css; charset=utf-8",
		"favicon.svg":          "image/svg+xml",
		"vendor/htmx.min.js":   "text/javascript; charset=utf-8",
		"vendor/hx-sse.min.js": "text/javascript; charset=utf-8",
	} {
		path := Path(name)
		if !regexp.MustCompile(`^/static/` + regexp.QuoteMeta(name) + `\?v=[0-9a-f]{8}$`).MatchString(path) {
			t.Errorf("the path of %s is %s", name, path)
		}
		got := ask("GET", path, nil)
		if got.StatusCode != 200 || got.Header.Get("Content-Length") == "0" {
			t.Errorf("%s: %d, %s bytes", path, got.StatusCode, got.Header.Get("Content-Length"))
		}
		for header, want := range map[string]string{
			"Content-Type": kind, "X-Content-Type-Options": "nosniff",
			"Cache-Control": "public, max-age=31536000, immutable",
		} {
			if is := got.Header.Get(header); is != want {
				t.Errorf("%s: %s is %q, want %q", path, header, is, want)
			}
		}
	}
}

func TestWhatIsAskedAndWhatIsAnswered(t *testing.T) {
	tag := ask("GET", "/static/app.css", nil).Header.Get("ETag")
	if !regexp.MustCompile(`^"[0-9a-f]{32}"$`).MatchString(tag) {
		t.Fatalf("the ETag is %s", tag)
	}
	for _, row := range []struct {
		name, method, target string
		header               http.Header
		status               int
		cache                string
	}{
		{"a bare name is asked for again", "GET", "/static/app.css", nil, 200, "no-cache"},
		{"an old hash is not kept", "GET", "/static/app.css?v=00000000", nil, 200, "no-cache"},
		{"HEAD is as GET", "HEAD", "/static/app.css", nil, 200, "no-cache"},
		{"the same content is not sent again", "GET", "/static/app.css", http.Header{"If-None-Match": {tag}}, 304, "no-cache"},
		{"another content is", "GET", "/static/app.css", http.Header{"If-None-Match": {`"x"`}}, 200, "no-cache"},
		{"no listing", "GET", "/static/", nil, 404, ""},
		{"no listing of a folder", "GET", "/static/vendor/", nil, 404, ""},
		{"a folder is no file", "GET", "/static/vendor", nil, 404, ""},
		{"no Go file", "GET", "/static/static.go", nil, 404, ""},
		{"no README", "GET", "/static/vendor/README.md", nil, 404, ""},
		{"nothing above", "GET", "/static/../app.go", nil, 404, ""},
		{"nothing is written", "POST", "/static/app.css", nil, 405, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := ask(row.method, row.target, row.header)
			if got.StatusCode != row.status || got.Header.Get("Cache-Control") != row.cache {
				t.Errorf("got %d, %q", got.StatusCode, got.Header.Get("Cache-Control"))
			}
		})
	}
}

func TestPathPanicsForAFileThatIsNotThere(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	Path("nothing.css")
}

func TestAFileWithoutAMediaTypePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	read(fstest.MapFS{"a.sh": {Data: []byte("x")}})
}

func TestFilesLoadNothingFromElsewhere(t *testing.T) {
	outside := regexp.MustCompile(`(?i)url\(\s*['"]?(https?:)?//|@import|style\s*=|<script|\son[a-z]+=`)
	for name, file := range files() {
		if strings.HasPrefix(name, "vendor/") || strings.HasSuffix(name, ".js") {
			continue
		}
		if at := outside.Find(file.content); at != nil {
			t.Errorf("%s has %q", name, at)
		}
	}
}
