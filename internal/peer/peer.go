// Package peer carries agent.Source between agents: a few requests, in plain HTTP over the sessions of package transfer.
//
//	POST /v1/freeze    {job_id}              -> the manifest
//	POST /v1/estimate  {job_id, streams}     -> how many bytes they will have
//	POST /v1/stream    {job_id, to, from, …} -> the stream, with a trailer that says how it ended
//	POST /v1/stats     {containers}          -> what they use at the moment
//	POST /v1/digests   {container_id, …}     -> the files of a snapshot, each with a sum, as a stream
//
// Who asks is what the certificate says; what may be asked is what the store's open jobs of that server name, or, of digests, its
// copies. What containers use, every server of the fleet may ask.
package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

const (
	pathFreeze   = "/v1/freeze"
	pathEstimate = "/v1/estimate"
	pathStream   = "/v1/stream"
	pathStats    = "/v1/stats"
	pathDigests  = "/v1/digests"
)

// maxRequest bounds a request for a stream (a job id, a resume token, the GUIDs of a series) or for digests (the GUIDs of a container's snapshots).
const maxRequest = 64 << 10

// RequestLimit is transfer.ListenerConfig.RequestLimit: only an estimate lists as many snapshots as there are. What waits in the queue
// for a stream is held in memory.
func RequestLimit(path string) int64 {
	if path == pathEstimate {
		return transfer.MaxRequest
	}
	return maxRequest
}

// Serving is what an agent offers to its peers.
type Serving interface {
	Freeze(ctx context.Context, peer, jobID string) (agent.Manifest, error)
	EstimateStreams(ctx context.Context, peer string, request agent.EstimateRequest) (agent.Estimate, error)
	OpenStream(ctx context.Context, peer string, request agent.StreamRequest) (io.ReadCloser, error)
	Measure(ctx context.Context, containers []string) ([]agent.Measured, error)
	OpenDigests(ctx context.Context, peer string, request agent.DigestRequest) (agent.Digests, error)
}

type freezeRequest struct {
	JobID string `json:"job_id"`
}

// ServerOptions says how streams are sent.
type ServerOptions struct {
	Log *zap.Logger
	// Gate limits how many transfers are sent at once, per peer and in all. Streams of one job that follow each other closely, the
	// next one asked for before the last has ended, are one transfer. nil for no limit.
	Gate *transfer.Gate
	// Stream are the options of every stream that is sent.
	Stream transfer.StreamOptions
	// Limits bound the bandwidth of what is sent; nil for none.
	Limits *transfer.Limits
	// Observe is told of every stream that was sent, however it ended, for metrics; nil for nobody.
	Observe func(stream, wire uint64, compression string)

	notices time.Duration // for tests; transfer.NoticeInterval
}

// NewHandler serves an agent to its peers.
func NewHandler(serving Serving, options ServerOptions) http.Handler {
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	if options.notices == 0 {
		options.notices = transfer.NoticeInterval
	}
	s := &server{serving: serving, options: options, slots: newSlots(options.Gate)}
	mux := http.NewServeMux()
	mux.Handle("POST "+pathFreeze, transfer.Handle(options.Log, s.freeze))
	mux.Handle("POST "+pathEstimate, transfer.Handle(options.Log, s.estimate))
	mux.HandleFunc("POST "+pathStream, s.stream)
	mux.Handle("POST "+pathStats, transfer.Handle(options.Log, s.stats))
	mux.HandleFunc("POST "+pathDigests, s.digests)
	return mux
}

type server struct {
	serving Serving
	options ServerOptions
	slots   *slots
}

func (s *server) freeze(ctx context.Context, request freezeRequest) (agent.Manifest, error) {
	peer, err := caller(ctx)
	if err != nil {
		return agent.Manifest{}, err
	}
	began := time.Now()
	manifest, err := s.serving.Freeze(ctx, peer, request.JobID)
	if err != nil {
		return agent.Manifest{}, err
	}
	s.options.Log.Info("frozen", zap.String("job", request.JobID), zap.String("peer", peer),
		zap.String("request_id", transfer.RequestIDFromContext(ctx)), zap.Duration("took", time.Since(began)), zap.Int("snapshots", len(manifest.Nodes)))
	return manifest, nil
}

func (s *server) estimate(ctx context.Context, request agent.EstimateRequest) (agent.Estimate, error) {
	peer, err := caller(ctx)
	if err != nil {
		return agent.Estimate{}, err
	}
	return s.serving.EstimateStreams(ctx, peer, request)
}

func (s *server) stream(w http.ResponseWriter, r *http.Request) {
	peer, err := caller(r.Context())
	if err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	var request agent.StreamRequest
	if err := transfer.DecodeRequest(r, &request); err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	// However long the queue is: who gave up and asked again would be at its end.
	granted := transfer.KeepWaiting(w, s.options.notices)
	release, err := s.slots.acquire(r.Context(), peer, request.JobID)
	granted()
	if err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	defer release()
	stream, err := s.serving.OpenStream(r.Context(), peer, request)
	if err != nil {
		transfer.WriteError(w, r, s.options.Log, err)
		return
	}
	log := s.options.Log.With(zap.String("job", request.JobID), zap.String("peer", peer),
		zap.String("request_id", transfer.RequestIDFromContext(r.Context())),
		zap.Stringer("snapshot", request.To), zap.Stringer("base", request.From))
	options := s.options.Stream
	options.Limiters = append(s.options.Limits.For(peer), options.Limiters...)
	sent, err := transfer.WriteStream(w, r, stream, options)
	if closed := stream.Close(); err == nil {
		err = closed
	}
	if s.options.Observe != nil { // however it ended: the network has carried it
		s.options.Observe(sent.Bytes, sent.Wire, compressionName(sent.Compressed))
	}
	if err != nil {
		log.Warn("stream not sent whole", zap.Uint64("bytes", sent.Bytes), zap.Error(err))
		return
	}
	log.Info("stream sent", zap.Int("snapshots", len(request.Between)+1), zap.Uint64("bytes", sent.Bytes), zap.Uint64("wire_bytes", sent.Wire), zap.Bool("compressed", sent.Compressed))
}

func caller(ctx context.Context) (string, error) {
	peer, ok := transfer.PeerFromContext(ctx)
	if !ok {
		return "", errdefs.New(errdefs.ErrUnauthenticated, "", "no peer identity")
	}
	return peer, nil
}

// Clients is agent.Peers over a dialer.
type Clients struct {
	// Dial returns an HTTP client that talks to one server's agent; (*transfer.Dialer).Client is one.
	Dial func(serverID string) *http.Client
	// Stream are the options of every stream that is received.
	Stream transfer.StreamOptions
	// Limits bound the bandwidth of what is received; nil for none.
	Limits *transfer.Limits
}

var _ agent.Peers = Clients{}

// Peer returns the agent of a server.
func (c Clients) Peer(serverID string) agent.Source {
	options := c.Stream
	options.Limiters = append(c.Limits.For(serverID), options.Limiters...)
	return &source{server: serverID, client: c.Dial(serverID), options: options}
}

type source struct {
	server  string
	client  *http.Client
	options transfer.StreamOptions
}

// forRequest lets the request that ctx works for go along.
func forRequest(ctx context.Context) context.Context {
	return transfer.WithRequestID(ctx, agent.RequestID(ctx))
}

func (s *source) Freeze(ctx context.Context, jobID string) (agent.Manifest, error) {
	var manifest agent.Manifest
	err := transfer.Call(forRequest(ctx), s.client, http.MethodPost, pathFreeze, freezeRequest{JobID: jobID}, &manifest)
	if err != nil {
		return agent.Manifest{}, fmt.Errorf("freeze on server %s: %w", s.server, err)
	}
	return manifest, nil
}

func (s *source) Estimate(ctx context.Context, request agent.EstimateRequest) (agent.Estimate, error) {
	var estimate agent.Estimate
	err := transfer.Call(forRequest(ctx), s.client, http.MethodPost, pathEstimate, request, &estimate)
	if err != nil {
		return agent.Estimate{}, fmt.Errorf("estimate on server %s: %w", s.server, err)
	}
	return estimate, nil
}

func (s *source) Stream(ctx context.Context, request agent.StreamRequest) (agent.Stream, error) {
	stream, _, err := open(ctx, s.client, pathStream, request, s.options)
	if err != nil {
		return nil, fmt.Errorf("stream from server %s: %w", s.server, err)
	}
	return received{stream}, nil
}

// open asks for a stream and returns it with the head of the answer.
func open(ctx context.Context, client *http.Client, path string, request any, options transfer.StreamOptions) (*transfer.Stream, http.Header, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, nil, err
	}
	call, err := http.NewRequestWithContext(forRequest(ctx), http.MethodPost, transfer.URL(path), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	call.Header.Set("Content-Type", "application/json")
	if !options.NoCompression {
		transfer.AcceptCompression(call)
	}
	response, err := client.Do(call)
	if err != nil {
		return nil, nil, err
	}
	stream, err := transfer.OpenStream(response, options)
	return stream, response.Header, err
}

// received is a transfer.Stream that tells its wire size in the agent's terms.
type received struct{ *transfer.Stream }

func (r received) Wire() (uint64, string) {
	state := r.Received()
	return state.Wire, compressionName(state.Compressed)
}

func compressionName(compressed bool) string {
	if compressed {
		return "zstd"
	}
	return "none"
}
