// Package pki is the certificate authority of a fleet and the TLS configuration that follows from it.
//
// Every agent holds one certificate, which it presents as server and as client. Who an agent is stands in the
// certificate as a URI, "hoody-server:<server id>": host names and addresses may change or be shared, a server id
// may not. Trust is one question: did the fleet's authority sign this id?
//
// On disk a fleet is two directories. The authority's holds ca.crt and ca.key and need not be on any agent's host.
// An agent's holds ca.crt, which it trusts, and agent.pem, its key and certificate in one file: one rename
// replaces both, so that a crash can never leave a key beside another key's certificate.
package pki
