//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/userpage"
)

// pageInTheGate are the examples that every run tells; a full run tells all.
var pageInTheGate = []string{"scenario2", "scenario3"}

// userPage runs the commands of the public page, as they stand there, against the real hosts.
func (s *story) userPage() {
	fleet := userpage.Fleet{API: s.a.api.Base, Token: s.a.api.Token, Settled: func(ctx context.Context, id string) error {
		container, err := s.a.api.Settle(ctx, id)
		if err == nil && container.Status != contract.ContainerStatusRunning {
			return fmt.Errorf("container %s is %s", id, container.Status)
		}
		return err
	}}
	project, err := s.a.api.CreateProject(s.ctx, "users-page")
	s.must(err)
	source := s.container("page-source", 1<<20)
	cast := userpage.Cast(project.ID, source.id, serverB, serverA)
	told := 0
	for _, story := range userpage.Stories {
		if !full() && !slices.Contains(pageInTheGate, story.Script) {
			continue
		}
		told++
		ids := maps.Clone(cast)
		if story.Script == "before-sync" {
			copied := s.a.copy(s.ctx, source.id, map[string]any{"target_project_id": project.ID})
			s.a.settled(s.ctx, copied.ID, "running")
			ids["copy_id"] = copied.ID
			defer func() { s.must(s.a.api.Delete(s.ctx, copied.ID)) }()
		}
		s.must(fleet.Tell(s.ctx, story, ids))
		if story.Script == "scenario2" {
			s.automation(fleet, ids)
		}
		for _, id := range story.Copies(ids) {
			s.must(s.a.api.Delete(s.ctx, id))
		}
	}
	s.t.Logf("%d of %d examples of the page", told, len(userpage.Stories))
	s.must(s.a.api.Delete(s.ctx, source.id))
}

// automation runs the page's scripts for the night, for a team and for a template that may have changed.
func (s *story) automation(fleet userpage.Fleet, ids map[string]string) {
	s.t.Helper()
	ids = maps.Clone(ids)
	ids["staging_container_id"], ids["source_id"], ids["copy_id"] = ids["alice_copy_id"], ids["template_id"], ids["alice_copy_id"]
	says := func(script, want string) {
		s.t.Helper()
		said, err := fleet.Run(s.ctx, script, ids)
		s.must(err)
		s.equal("what the script "+script+" says", said, want)
		for _, copied := range []string{"alice_copy_id", "bob_copy_id"} {
			s.must(fleet.Settled(s.ctx, ids[copied]))
		}
	}
	says("nightly", "Starting nightly staging sync...\nStaging synced successfully\nSync status: copying\n")
	says("team", "Synced 2 team environments\n")
	before, err := s.a.api.Container(s.ctx, ids["template_id"])
	s.must(err)
	s.a.box(ids["template_id"]).put(s.ctx, "data/small", "changed since\n")
	s.a.eventually(s.ctx, "new time of update", func() error {
		template, err := s.a.api.Container(s.ctx, ids["template_id"])
		if err == nil && !template.UpdatedAt.After(before.UpdatedAt.Time) {
			err = fmt.Errorf("it is %s", template.UpdatedAt)
		}
		return err
	})
	says("conditional", "Source has updates, syncing...\n")
}
