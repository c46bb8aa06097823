package agent

import (
	"context"
	"io"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// Peers finds the agents of other servers.
type Peers interface {
	// Peer returns the agent of a server; it is dialled when it is first used.
	Peer(serverID string) Source
	// Measure asks another server's agent what some of its containers use, at most 100.
	Measure(ctx context.Context, serverID string, containers []string) ([]Measured, error)
	// Digests lists the files of a snapshot as another server's agent reads them, for a copy on this server.
	Digests(ctx context.Context, serverID string, request DigestRequest) (Digests, error)
}

// Gate lets transfers run, a few at a time in all and with each server, so that those which wait for one server hold up no others'.
type Gate interface {
	// Acquire waits for a place for a transfer from a server; release gives it back.
	Acquire(ctx context.Context, serverID string) (release func(), err error)
}

// Source is the agent that holds a copy's or sync's source: another server's, or this one itself.
// All methods act only for an open job of the asking server that names a container of the source's server.
type Source interface {
	// Freeze makes sure that the state which the job wants exists as a snapshot, and describes it. It is idempotent:
	// a job is frozen once, whatever happens after.
	Freeze(ctx context.Context, jobID string) (Manifest, error)
	// Estimate tells how large streams will be, without sending any.
	Estimate(ctx context.Context, request EstimateRequest) (Estimate, error)
	// Stream sends one snapshot of the job's lineage, or several that follow each other. Its Read ends with io.EOF only when all of it arrived, verified.
	Stream(ctx context.Context, request StreamRequest) (Stream, error)
}

// Manifest describes the snapshots that a job may ask for.
type Manifest struct {
	Protocol int            `json:"protocol"` // PeerProtocol of who answers
	Wanted   []lineage.GUID `json:"wanted"`   // the frozen state, its history and the image at the root
	Nodes    []lineage.Node `json:"nodes"`    // these and all of their ancestors
	Series   bool           `json:"series"`   // a stream may bring several, with StreamRequest.Between
}

// PeerProtocol counts the changes after which an agent does not understand another's requests or streams.
const PeerProtocol = 1

// StreamRequest names a stream by GUIDs alone: the source looks up its own names.
type StreamRequest struct {
	JobID string       `json:"job_id"`
	To    lineage.GUID `json:"to"`
	From  lineage.GUID `json:"from"`            // 0 for a full stream
	Token string       `json:"token,omitempty"` // resumes; To and From say what of
	Embed bool         `json:"embed"`           // the receiving pool is not encrypted
	// Between are the snapshots that lie between From and To in one dataset, oldest first, if the stream is to bring them as well. It is for sources whose
	// manifest says Series.
	Between []lineage.GUID `json:"between,omitempty"`
}

// Stream is a stream under way.
type Stream interface {
	io.ReadCloser
	// Wire returns how many bytes came over the network so far and how they were compressed ("none", "zstd"). It must not be called while a Read runs.
	Wire() (bytes uint64, compression string)
}

// sourceOf returns the agent that holds a server's containers.
func (a *Agent) sourceOf(serverID string) Source {
	if serverID == a.serverID {
		return localSource{a}
	}
	return a.peers.Peer(serverID)
}

// localSource is this agent as a source for itself.
type localSource struct{ agent *Agent }

func (s localSource) Freeze(ctx context.Context, jobID string) (Manifest, error) {
	return s.agent.Freeze(ctx, s.agent.serverID, jobID)
}

func (s localSource) Estimate(ctx context.Context, request EstimateRequest) (Estimate, error) {
	return s.agent.EstimateStreams(ctx, s.agent.serverID, request)
}

func (s localSource) Stream(ctx context.Context, request StreamRequest) (Stream, error) {
	stream, err := s.agent.OpenStream(ctx, s.agent.serverID, request)
	if err != nil {
		return nil, err
	}
	return &localStream{ReadCloser: stream}, nil
}

type localStream struct{ io.ReadCloser }

func (*localStream) Wire() (uint64, string) { return 0, "none" }
