// Package docs serves a readable page of the contract. Everything it needs is in the binary; the page asks nobody else for
// anything, and its Content-Security-Policy sees to that.
package docs

import (
	"embed"
	"io"
	"net/http"
	"path"
	"time"
)

//go:embed index.html docs.js swagger-ui-bundle.js swagger-ui.css
var files embed.FS

// policy allows what the page consists of. The viewer sets styles on elements and has its icons as data.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var types = map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

// Serve answers GET and HEAD of /docs and what is below it, and tells whether it did: it is not there for other paths.
func Serve(w http.ResponseWriter, r *http.Request) (served bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	name := "index.html"
	if r.URL.Path != "/docs" {
		directory, file := path.Split(r.URL.Path)
		if directory != "/docs/" {
			return false
		}
		name = file
	}
	kind, known := types[path.Ext(name)]
	if !known {
		return false
	}
	file, err := files.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	http.ServeContent(w, r, name, time.Time{}, file.(io.ReadSeeker)) // as package embed says; nothing is copied for a client that does not read
	return true
}
