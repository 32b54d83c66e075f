// Package static holds the files that the pages load: the style sheets, the
// scripts, the icon. They are in the binary; nothing is built and nothing comes
// from elsewhere.
//
// A page names a file by Path, whose query changes with the file's content. Under
// that name browsers keep it for a year without asking; under its bare name they
// ask each time and are told by its ETag whether theirs still stands. Only the
// files named here are served, there is no listing, and each has its own type.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// The pattern is that of style sheets, scripts and pictures beside this file.
//
//go:embed *.[cjs][sv]* vendor/*.js
var embedded embed.FS

const prefix = "/static/"

// types has the media types of what is served. Others are not: a browser is told to
// believe them, and Go's own table depends on the system's.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

type file struct {
	content []byte
	kind    string
	hash    string // of the content: SHA-256, in hex
}

// files are read once; they cannot change while the program runs.
var files = sync.OnceValue(func() map[string]file { return read(embedded) })

// read panics if a file has no media type: it is embedded and never served then.
func read(folder fs.FS) map[string]file {
	byName := make(map[string]file)
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kind, ok := types[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%s has no media type", name)
		}
		content, err := fs.ReadFile(folder, name)
		sum := sha256.Sum256(content)
		byName[name] = file{content, kind, hex.EncodeToString(sum[:])}
		return err
	})
	if err != nil {
		panic(fmt.Errorf("read the embedded files: %w", err))
	}
	return byName
}

// Path is where a page finds a file, such as /static/app.css?v=01234567. It panics
// for a name that is not there, since names are written into templates; a template
// makes an error of it.
func Path(name string) string {
	file, ok := files()[name]
	if !ok {
		panic("there is no file " + name)
	}
	return prefix + name + "?v=" + version(file)
}

func version(f file) string { return f.hash[:8] }

// Handler answers GET and HEAD for paths that begin with /static/.
func Handler() http.Handler {
	byName := files()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "files are only read", http.StatusMethodNotAllowed)
			return
		}
		file, ok := byName[strings.TrimPrefix(r.URL.Path, prefix)]
		if !ok {
			http.Error(w, "there is no such file", http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", file.kind)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("ETag", `"`+file.hash[:32]+`"`)
		h.Set("Cache-Control", "no-cache")
		if r.URL.Query().Get("v") == version(file) {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
	})
}
