package api

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// checked puts before a handler all that can be said about a request without knowing any container: who sends it, and
// whether it is what the document describes. Credentials come first, so that a stranger learns nothing about the rest.
func (s *server) checked(rt route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := exchangeOf(r)
		e.route = rt
		if !rt.public {
			if err := s.establish(r, e); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		for _, check := range []func(*http.Request, route) error{checkPath, checkQuery, readBody, checkDocument, countOnce} {
			if err := check(r, rt); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		// The server's limit on how long a request may take to arrive has done its work. Left standing, it would end the
		// request's context while the answer is still being made.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		next.ServeHTTP(w, r)
	})
}

// checkPath checks the path's parameters before anything is said about the rest of the request.
func checkPath(r *http.Request, rt route) error {
	values := pathValues(r, rt)
	input := &openapi3filter.RequestValidationInput{Request: r, PathParams: values, Route: rt.spec}
	var found findings
	for _, parameter := range slices.Concat(rt.spec.PathItem.Parameters, rt.spec.Operation.Parameters) {
		if parameter.Value.In != "path" {
			continue
		}
		if err := openapi3filter.ValidateParameter(r.Context(), input, parameter.Value); err != nil {
			found.collect(err)
		}
	}
	return found.asPathError()
}

// checkQuery refuses what the document's own check lets pass in silence: what cannot be parsed, what is said twice, and
// what nobody would look at. A misspelt filter must not answer with everything.
func checkQuery(r *http.Request, rt route) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalidQuery(contract.Issue{InstancePath: "", Message: "the query string is malformed"})
	}
	var issues []contract.Issue
	for _, name := range sortedKeys(values) {
		switch {
		case !rt.takesQuery(name):
			issues = append(issues, contract.Issue{InstancePath: pointer(name), Message: "is not a parameter of this route"})
		case len(values[name]) > 1:
			issues = append(issues, contract.Issue{InstancePath: pointer(name), Message: "must be given once"})
		case values[name][0] == "":
			issues = append(issues, contract.Issue{InstancePath: pointer(name), Message: "must not be empty"})
		}
	}
	if len(issues) == 0 {
		return nil
	}
	return invalidQuery(issues...)
}

// checkDocument checks query and body against the document and fills in the query's documented defaults.
func checkDocument(r *http.Request, rt route) error {
	err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request:    r,
		PathParams: pathValues(r, rt),
		Route:      rt.spec,
		Options: &openapi3filter.Options{
			MultiError:         true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // done before, by the Authenticator
		},
	})
	if err == nil {
		return nil
	}
	var found findings
	found.collect(err)
	return found.asError()
}

// takesQuery tells whether the document names the query parameter for the operation.
func (rt route) takesQuery(name string) bool {
	return rt.spec.Operation.Parameters.GetByInAndName("query", name) != nil
}

func pathValues(r *http.Request, rt route) map[string]string {
	values := make(map[string]string, len(rt.parameters))
	for _, name := range rt.parameters {
		values[name] = r.PathValue(name)
	}
	return values
}
