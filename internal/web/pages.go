package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"davidcockson.com/runner/internal/access"
	"davidcockson.com/runner/internal/web/static"
)

//go:embed templates/*.html
var templates embed.FS

// pages writes pages from templates. Each page is the frame with its own file in
// it; a part is a template of that file which is also sent alone.
type pages struct {
	of map[string]*template.Template
}

// files are the pages' templates. One that is not named here is not used.
var files = []string{"chat", "queue", "job", "health", "login", "error"}

func newPages(o Options) (*pages, error) {
	p := &pages{of: make(map[string]*template.Template)}
	for _, name := range files {
		t, err := template.New("frame.html").Funcs(functions(o)).ParseFS(templates, "templates/frame.html", "templates/parts.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("read the template of the page %s: %w", name, err)
		}
		p.of[name] = t.Option("missingkey=error")
	}
	return p, nil
}

// write makes a page whole, then sends it.
func (p *pages) write(w http.ResponseWriter, r *http.Request, status int, name string, data any) error {
	html, err := p.part(name, "frame.html", data)
	if err != nil {
		return err
	}
	writeHTML(w, status, html)
	return nil
}

// part makes one template of a page's file.
func (p *pages) part(page, name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := p.of[page].ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("make the page %s: %w", page, err)
	}
	return out.Bytes(), nil
}

func writeHTML(w http.ResponseWriter, status int, html []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // a shared machine's back button
	w.Header().Add("Vary", "Accept, HX-Request")
	w.WriteHeader(status)
	w.Write(html) // a reader who has gone is no loss
}

// frame is what is around every page.
type frame struct {
	Title string
	// Here is the page's path in the navigation.
	Here string
	// Stream is the page's one event stream, "" for none.
	Stream  string
	Version string
	Hosts   template.HTML
	// SignedOut leaves out all that needs a session.
	SignedOut bool
	// CanSignOut says that there is a session of ours to end.
	CanSignOut bool
}

func (a *App) frame(r *http.Request, title, here string) frame {
	who := access.Who(r.Context())
	hosts, _ := a.hosts.now(0)
	if hosts == nil && who.Kind != "" {
		hosts, _ = a.showHosts(r.Context()) // without, the stream brings it
	}
	return frame{Title: title, Here: here, Version: a.o.Version, Hosts: template.HTML(hosts), SignedOut: who.Kind == "", CanSignOut: who.Kind == access.BySession}
}

// functions are what templates may call: how things are written, no more.
func functions(o Options) template.FuncMap {
	return template.FuncMap{
		"static": static.Path,
		"time":   func(t time.Time) template.HTML { return timeHTML(t, o.Location) },
		"took":   took,
		"size":   size,
		"obsidian": func(note string) template.URL {
			return template.URL("obsidian://open?vault=" + escape(o.VaultName) + "&file=" + escape(strings.TrimSuffix(note, ".md")))
		},
		"base":  path.Base,
		"class": func(s any) string { return strings.ReplaceAll(fmt.Sprint(s), " ", "-") },
		"add":   func(a, b int) int { return a + b },
	}
}

// escape is percent-encoding with %20 and %2F, as Obsidian wants it.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// timeHTML shows a moment in the owner's zone; app.js turns it into the reader's,
// and the exact time shows on hover.
func timeHTML(t time.Time, location *time.Location) template.HTML {
	if t.IsZero() {
		return ""
	}
	local := t.In(location)
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, t.UTC().Format(time.RFC3339Nano),
		template.HTMLEscapeString(local.Format("Monday 2 January 2006, 15:04:05 MST")), local.Format("2 Jan 15:04")))
}

// took shows a duration: 340 ms, 2.4 s, 3 min 5 s. What was measured took some time,
// so it is never 0.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "less than 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// size shows a number of bytes: 815 MB, 9.6 GB.
func size(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1e6:
		return fmt.Sprintf("%d kB", n/1e3)
	case n < 1e9:
		return fmt.Sprintf("%d MB", n/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
