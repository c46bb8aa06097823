// Package contract is the Go side of api/openapi.yaml: its types and its routes, generated, and the few types whose JSON
// form needs a hand.
package contract

//go:generate go tool oapi-codegen -config oapi-codegen.yaml ../../../api/openapi.yaml
