// Package demo tells the story of copy and sync on a fleet of two servers, through their HTTP API, and checks every line of
// what it tells.
package demo

import (
	"context"
	"os"

	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// Server is one server of the fleet that the story plays on.
type Server struct {
	ID   string
	Name string
	API  *client.Client
	Host Host
}

// Guest reaches the files of containers, for what their own programs would write and read. It may be used concurrently.
type Guest interface {
	// Use runs use on the root directory of a container's files.
	Use(ctx context.Context, containerID string, use func(root *os.Root) error) error
}

// Host is what the story does on a server, or looks at, beside its API.
type Host interface {
	Guest
	// Used is how many bytes the server's storage pool holds.
	Used(ctx context.Context) (int64, error)
	// Boots is how often a container was started.
	Boots(containerID string) int
	// StopMidway prepares for the next stream that the server receives: as soon as so many bytes of it are in the pool,
	// the server's agent is stopped. The returned function waits for that and tells how many had arrived; it must be called.
	StopMidway(ctx context.Context, after int64) (wait func() (arrived int64, err error), err error)
	// Start starts the agent that StopMidway stopped.
	Start(ctx context.Context) error
}
