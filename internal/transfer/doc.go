// Package transfer carries requests and bulk streams between agents.
//
// There is no wire format of its own: TCP, TLS 1.3 with certificates of the fleet on both sides (package pki), yamux
// on top, and each yamux stream is one plain HTTP/1.1 request. So a handler here is an http.Handler, a client is an
// *http.Client, and everything that net/http knows about cancelling, headers and trailers holds.
//
//   - Listener accepts sessions and serves a handler on them; PeerFromContext names the caller.
//   - Dialer keeps one session per peer and hands out clients.
//   - Call and Handle are JSON requests whose errors keep their class across agents.
//   - WriteStream and OpenStream are the two ends of a bulk stream. A stream that ends without a trailer that says
//     it is complete has failed: an end of file alone is never success.
//   - Gate decides who may transfer at once.
//
// Data flows from the accepting to the dialling side: the agent that wants data asks for it, since it knows what it
// has. Therefore only diallers grant large receive windows, and requests are small.
//
// Peers are treated like strangers even though they hold certificates: sizes, counts, times and memory are bounded
// on both sides.
package transfer
