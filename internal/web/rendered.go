package web

import (
	"html/template"
	"sync"

	"davidcockson.com/runner/internal/history"
	"davidcockson.com/runner/internal/web/render"
)

// rendered keeps the HTML of answers, which never change, up to a number of bytes.
type rendered struct {
	render *render.Renderer

	mu    sync.Mutex
	of    map[int64]template.HTML // by the message's id
	bytes int
}

// mostRendered is how much HTML is kept, in bytes.
const mostRendered = 8 << 20

func newRendered(r *render.Renderer) *rendered {
	return &rendered{render: r, of: make(map[int64]template.HTML)}
}

func (r *rendered) html(m history.Message) template.HTML {
	r.mu.Lock()
	html, ok := r.of[m.ID]
	r.mu.Unlock()
	if ok {
		return html
	}
	html = r.render.HTML(m.Text)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(html) > mostRendered/8 {
		return html
	}
	for id, old := range r.of { // any of them: the map's order is chance
		if r.bytes+len(html) <= mostRendered {
			break
		}
		delete(r.of, id)
		r.bytes -= len(old)
	}
	if _, ok := r.of[m.ID]; !ok {
		r.of[m.ID] = html
		r.bytes += len(html)
	}
	return html
}
