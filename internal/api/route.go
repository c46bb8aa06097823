package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/hoodynetwork/hoody-agent/internal/api/docs"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// route is one operation of the document.
type route struct {
	path       string // as in the document, such as /api/v1/containers/{id}
	operation  string // its operationId
	public     bool   // needs no credentials
	parameters []string
	spec       *routers.Route
}

// documents tells whether the document lists the status for the operation.
func (rt route) documents(status int) bool {
	return rt.spec != nil && rt.spec.Operation.Responses.Status(status) != nil
}

// load reads the contract.
func (s *server) load(yaml []byte) error {
	doc, err := openapi3.NewLoader().LoadFromData(yaml)
	if err != nil {
		return fmt.Errorf("load the contract: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return fmt.Errorf("validate the contract: %w", err)
	}
	if s.document, err = doc.MarshalJSON(); err != nil {
		return fmt.Errorf("encode the contract: %w", err)
	}
	s.descriptions = map[string]route{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			s.descriptions[method+" "+path] = describeRoute(doc, path, item, method, operation)
		}
	}
	return nil
}

func describeRoute(doc *openapi3.T, path string, item *openapi3.PathItem, method string, operation *openapi3.Operation) route {
	rt := route{
		path:      path,
		operation: operation.OperationID,
		public:    operation.Security != nil && len(*operation.Security) == 0,
		spec:      &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: operation},
	}
	for _, parameter := range append(item.Parameters[:len(item.Parameters):len(item.Parameters)], operation.Parameters...) {
		if parameter.Value.In == openapi3.ParameterInPath {
			rt.parameters = append(rt.parameters, parameter.Value.Name)
		}
	}
	return rt
}

// router is the mux that the generated code registers its handlers with. It puts the checks of the document before
// each of them, and answers in the contract's envelope where http.ServeMux would redirect or write plain text.
type router struct {
	server *server
	mux    *http.ServeMux
}

func newRouter(s *server) *router {
	rt := &router{server: s, mux: http.NewServeMux()}
	rt.mux.HandleFunc("/", rt.unmatched)
	return rt
}

// HandleFunc registers the handler of one operation of the document.
func (rt *router) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	description, ok := rt.server.descriptions[pattern]
	if !ok {
		panic(fmt.Sprintf("api: the generated code has a route that the document does not have: %s", pattern))
	}
	rt.mux.Handle(pattern, rt.server.checked(description, http.HandlerFunc(handler)))
}

// ServeHTTP implements http.Handler.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = withoutTrailingSlash(r)
	if escaped := r.URL.EscapedPath(); path.Clean("/"+escaped) != escaped || r.RequestURI == "*" {
		rt.server.fail(w, r, notFound()) // the mux would redirect, or answer by itself
		return
	}
	if docs.Serve(w, r) {
		return
	}
	rt.mux.ServeHTTP(w, r)
}

// withoutTrailingSlash makes /api/v1/projects/ the same as /api/v1/projects: the contract is written with the first,
// clients with both.
func withoutTrailingSlash(r *http.Request) *http.Request {
	if len(r.URL.Path) < 2 || !strings.HasSuffix(r.URL.EscapedPath(), "/") {
		return r
	}
	trimmed := new(http.Request)
	*trimmed = *r
	trimmed.URL = new(url.URL)
	*trimmed.URL = *r.URL
	trimmed.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
	trimmed.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	return trimmed
}

// unmatched answers what no operation of the document matches: another method of a known path, or no known path.
func (rt *router) unmatched(w http.ResponseWriter, r *http.Request) {
	allowed := rt.allowed(r)
	if len(allowed) == 0 {
		rt.server.fail(w, r, notFound())
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	rt.server.fail(w, r, &refusal{
		status:  http.StatusMethodNotAllowed,
		code:    "METHOD_NOT_ALLOWED",
		message: fmt.Sprintf("This path takes %s", strings.Join(allowed, " and ")),
	})
}

// allowed returns the methods that the request's path takes.
func (rt *router) allowed(r *http.Request) []string {
	var allowed []string
	probe := new(http.Request)
	*probe = *r
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		probe.Method = method
		if _, pattern := rt.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

func notFound() error {
	return errdefs.New(errdefs.ErrNotFound, "RESOURCE_NOT_FOUND", "Resource not found")
}
