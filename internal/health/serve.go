package health

import (
	"encoding/json"
	"net/http"
)

// Handler serves the report as JSON: 503 where no job runs, else 200.
func (c *Checker) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := c.Report(r.Context())
		data, err := json.MarshalIndent(report, "", "  ")
		if err != nil { // plain fields only
			http.Error(w, "the report cannot be written", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code(report))
		w.Write(append(data, '\n'))
	})
}

// Live serves one word, for monitors that need no more and may know no more.
func (c *Checker) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := c.Report(r.Context())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code(report))
		w.Write([]byte(string(report.Status) + "\n"))
	})
}

func code(r Report) int {
	if r.Status == Broken {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}
