package demo

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

const image = "debian/13"

// firstAlias is what the first snapshot is called.
const firstAlias = "stable"

// Where the story's data is in a container.
const (
	bigFile   = "srv/data.bin"
	smallFile = "srv/app.conf"
)

// create: two projects, a container from an image, its data, and two snapshots with changes between them.
func (s *story) create(ctx context.Context) (err error) {
	if s.project, err = s.here.API.CreateProject(ctx, "production"); err != nil {
		return err
	}
	if s.other, err = s.there.API.CreateProject(ctx, "staging"); err != nil {
		return err
	}
	for _, server := range []Server{s.here, s.there} {
		known, err := eventually(ctx, func() (bool, error) {
			var listed contract.ProjectPage
			err := server.API.Do(ctx, http.MethodGet, "/api/v1/projects", nil, &listed)
			return len(listed.Projects) == 2, err
		})
		if err != nil {
			return err
		}
		s.fact(known, "%s knows both projects, production and staging", server.Name)
	}
	began := time.Now()
	created, err := s.here.API.CreateContainer(ctx, s.project.ID, map[string]any{
		"server_id": s.here.ID, "name": "web", "container_image": image, "environment_vars": map[string]string{"STAGE": "production"},
	})
	if err != nil {
		return err
	}
	if s.source, err = s.await(ctx, s.here, created, began); err != nil {
		return err
	}
	s.fact(s.source.ContainerImage == image, "container web runs on %s, from the image %s (%s)", s.here.Name, image, span(s.source.took))
	return s.fill(ctx)
}

func (s *story) fill(ctx context.Context) (err error) {
	before, err := s.here.Host.Used(ctx)
	if err != nil {
		return err
	}
	if err := s.source.random(ctx, bigFile, 0, s.data); err != nil {
		return err
	}
	if err := s.source.write(ctx, smallFile, "version 1\n"); err != nil {
		return err
	}
	began := time.Now()
	if s.first, err = s.here.API.Snapshot(ctx, s.source.ID, firstAlias); err != nil {
		return err
	}
	after, err := s.here.Host.Used(ctx)
	if err != nil {
		return err
	}
	s.fact(after-before >= s.data, "%s of random data and a small file; the first snapshot, alias %s, makes the pool %s bigger (%s)",
		size(s.data), firstAlias, size(after-before), span(time.Since(began)))
	if err := s.source.write(ctx, smallFile, "version 2\n"); err != nil {
		return err
	}
	if s.second, err = s.here.API.Snapshot(ctx, s.source.ID, ""); err != nil {
		return err
	}
	if err := s.source.write(ctx, smallFile, "version 3\n"); err != nil {
		return err
	}
	listed, err := s.here.API.Snapshots(ctx, s.source.ID)
	if err != nil {
		return err
	}
	s.fact(s.both(listed), "after a change a second one; both are listed, newest first: %s, %s", s.second.Name, s.first.Name)
	return nil
}

// both tells whether a list holds the source's two snapshots and no others but those of what syncs displaced.
func (s *story) both(listed []contract.Snapshot) bool {
	listed = slices.DeleteFunc(listed, func(snapshot contract.Snapshot) bool { return snapshot.Undo != nil && *snapshot.Undo })
	return len(listed) == 2 && listed[0].Name == s.second.Name && listed[1].Name == s.first.Name
}
