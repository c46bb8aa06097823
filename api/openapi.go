// Package api holds the HTTP contract as a document; package internal/api serves it.
package api

import _ "embed"

//go:embed openapi.yaml
var document string

// Document returns the OpenAPI document, in YAML.
func Document() []byte { return []byte(document) }
