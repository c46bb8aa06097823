package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// status answers from memory alone: it must work when everything else hangs.
func (s *server) status() Status {
	status := Status{
		Server: Server{ID: s.ServerID, Version: s.Version, StartedAt: s.Started},
		Pool:   s.Pool(), Ready: s.Health.Ready(), Health: s.Health.States(),
		Store:      Store{ID: s.Records.StoreID(), Revision: s.mirror.Revision()},
		Containers: make(map[string]int), Jobs: s.jobs(JobsWanted{}), Fleet: []Neighbour{},
	}
	status.Store.StaleSince, status.Store.Stale = s.mirror.Stale()
	if own, ok := s.mirror.Server(s.ServerID); ok {
		status.Server.Name, status.Server.API, status.Server.Draining = own.Name, own.APIAddress, own.Draining
	}
	for _, container := range s.mirror.ContainersOnServer(s.ServerID) {
		status.Containers[string(container.Status)]++
	}
	for _, other := range s.mirror.Servers() {
		if other.ID == s.ServerID {
			continue
		}
		alive, seen := s.mirror.Alive(other.ID)
		status.Fleet = append(status.Fleet, Neighbour{
			ID: other.ID, Name: other.Name, Version: other.Version, Alive: alive, LastSeen: seen,
			Containers: len(s.mirror.ContainersOnServer(other.ID)), Draining: other.Draining,
		})
	}
	slices.SortFunc(status.Fleet, func(x, y Neighbour) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return status
}

// jobs lists jobs, the oldest first.
func (s *server) jobs(wanted JobsWanted) []Job {
	records := s.mirror.OpenJobs(s.ServerID)
	if wanted != (JobsWanted{}) {
		records = slices.DeleteFunc(slices.Clone(s.mirror.Jobs()), func(job *store.Job) bool {
			return !wanted.All && !job.Open() || !wanted.Fleet && job.ServerID != s.ServerID
		})
	}
	jobs := make([]Job, 0, len(records))
	for _, record := range records {
		jobs = append(jobs, s.job(record))
	}
	return jobs
}

func (s *server) job(record *store.Job) Job {
	job := Job{
		ID: record.ID, Kind: string(record.Kind), State: string(record.State), Phase: record.Phase, Attempts: record.Attempts,
		Server: s.serverNamed(record.ServerID), Container: s.containerNamed(record.ContainerID), Progress: record.Progress,
		CreatedAt: record.CreatedAt, StartedAt: record.StartedAt, FinishedAt: record.FinishedAt,
	}
	if record.SourceID != "" {
		source := s.containerNamed(record.SourceID)
		job.Source = &source
	}
	if record.SourceServerID != "" && record.SourceServerID != record.ServerID {
		from := s.serverNamed(record.SourceServerID)
		job.From = &from
	}
	if record.Error != nil {
		if job.Error = record.Error.Message; record.Error.Detail != "" {
			job.Error = record.Error.Detail
		}
		job.Class = record.Error.Class
	}
	return job
}

func (s *server) containerNamed(id string) Named {
	named := Named{ID: id}
	if container, ok := s.mirror.Container(id); ok {
		named.Name = container.Name
	}
	return named
}

func (s *server) serverNamed(id string) Named {
	named := Named{ID: id}
	if server, ok := s.mirror.Server(id); ok {
		named.Name = server.Name
	}
	return named
}

// containers lists this server's containers by name, with what they use in the pool.
func (s *server) containers(ctx context.Context) ([]Container, error) {
	inventory, err := s.Storage.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("sizes of containers: %w", err)
	}
	used, referenced := make(map[string]uint64), make(map[string]uint64)
	for _, dataset := range inventory.Datasets {
		used[dataset.Name], referenced[dataset.Name] = dataset.Used, dataset.Referenced
	}
	containers := []Container{}
	for _, record := range s.mirror.ContainersOnServer(s.ServerID) {
		dataset := agent.ContainerDataset(record.ID)
		container := Container{
			ID: record.ID, Name: record.Name, Project: Named{ID: record.ProjectID}, Status: string(record.Status),
			Snapshots: record.SnapshotCount, Job: record.JobID, Failure: record.FailureReason,
			Used: used[dataset], Referenced: referenced[dataset],
		}
		if project, ok := s.mirror.Project(record.ProjectID); ok {
			container.Project.Name = project.Alias
		}
		if record.SourceContainerID != "" {
			source := s.containerNamed(record.SourceContainerID)
			container.Source = &source
		}
		if last := record.LastOperation; last != nil {
			container.Last = &Operation{Kind: string(last.Kind), State: string(last.State), Error: last.Error, FinishedAt: last.FinishedAt}
		}
		containers = append(containers, container)
	}
	slices.SortFunc(containers, func(x, y Container) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return containers, nil
}
