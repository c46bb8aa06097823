package docs

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(method, path string) (*httptest.ResponseRecorder, bool) {
	w := httptest.NewRecorder()
	return w, Serve(w, httptest.NewRequest(method, path, nil))
}

// All that the page names is served here, and it names nothing elsewhere.
func TestThePageIsComplete(t *testing.T) {
	page, served := get(http.MethodGet, "/docs")
	if !served || page.Code != http.StatusOK || !strings.Contains(page.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("served %t, %d %v", served, page.Code, page.Header())
	}
	named := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(named) < 3 {
		t.Errorf("the page names only %v", named)
	}
	for _, link := range named {
		if strings.HasPrefix(link[1], "data:") {
			continue
		}
		file, served := get(http.MethodGet, link[1])
		if !served || file.Code != http.StatusOK || file.Body.Len() == 0 || file.Header().Get("Content-Type") == "" {
			t.Errorf("%s: served %t, %d", link[1], served, file.Code)
		}
	}
}

func TestOtherPathsAreNotServed(t *testing.T) {
	for _, path := range []string{"/", "/docs/", "/docs/.", "/docs/docs.go", "/docs/README.md", "/docs/../docs/docs.js", "/docsx", "/api/v1/openapi.json"} {
		if w, served := get(http.MethodGet, path); served {
			t.Errorf("%s: served %d bytes", path, w.Body.Len())
		}
	}
	if _, served := get(http.MethodPost, "/docs"); served {
		t.Error("POST is served")
	}
}
