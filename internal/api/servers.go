package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// ListServers implements GET /api/v1/servers.
func (s *server) ListServers(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		servers, err := s.ops.Servers(ctx, caller)
		if err != nil {
			return response{}, err
		}
		return ok("Servers retrieved successfully", each(servers, serverEntryView)), nil
	})
}

// GetServer implements GET /api/v1/servers/{id}.
func (s *server) GetServer(w http.ResponseWriter, r *http.Request, id contract.ID) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		server, err := s.ops.Server(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Server retrieved successfully", serverEntryView(server)), nil
	})
}

// GetContract implements GET /api/v1/openapi.json.
func (s *server) GetContract(w http.ResponseWriter, _ *http.Request) {
	s.sendJSON(w, http.StatusOK, s.document)
}

// serverEntryView shows a server as the contract shows a rental: nobody rents anything from an agent, so the rental has
// the server's id and says no more than whether the server is there.
func serverEntryView(view agent.ServerView) contract.ServerEntry {
	status := contract.ServerEntryStatusInactive
	if view.Alive {
		status = contract.ServerEntryStatusActive
	}
	server := view.Server
	return contract.ServerEntry{
		ID:       server.ID,
		ServerID: server.ID,
		Status:   status,
		Server: contract.Server{
			ID:                server.ID,
			Name:              server.Name,
			Country:           orNil(server.Country),
			Region:            orNil(server.Region),
			City:              orNil(server.City),
			Datacenter:        orNil(server.Datacenter),
			Specs:             specsView(server),
			ContainerCapacity: contract.ContainerCapacity{Used: view.Containers, Max: orNil(server.MaxContainers)},
		},
		Alive:    view.Alive,
		LastSeen: contract.AtIfAny(&view.LastSeen),
		Pool:     contract.ServerPool{Size: server.PoolSize, Free: server.PoolFree},
	}
}

// containerServerView shows the server that a container is on; nil when its record is gone.
func containerServerView(server store.Server) *contract.ContainerServer {
	if server.ID == "" {
		return nil
	}
	return &contract.ContainerServer{
		Name:       server.Name,
		Country:    orNil(server.Country),
		City:       orNil(server.City),
		Region:     orNil(server.Region),
		Datacenter: orNil(server.Datacenter),
		Specs:      specsView(server),
	}
}

func specsView(server store.Server) contract.ServerSpecs {
	return contract.ServerSpecs{
		CPUCores: server.Cores,
		RAMGb:    gibibytes(server.MemoryBytes),
		DiskGb:   gibibytes(server.PoolSize),
	}
}

// gibibytes rounds to the nearest: a machine of 32 GiB shows a little less to its system.
func gibibytes(bytes uint64) int {
	const gibibyte = 1 << 30
	return int((bytes + gibibyte/2) / gibibyte)
}
