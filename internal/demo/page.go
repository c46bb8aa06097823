package demo

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os/exec"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/userpage"
)

// page runs the commands of the public page about copy and sync in a shell, as they stand there.
func (s *story) page(ctx context.Context) error {
	for _, tool := range userpage.Tools {
		if _, err := exec.LookPath(tool); errors.Is(err, exec.ErrNotFound) {
			s.say("  (left out: this machine has no %s to run them with)\n", tool)
			return nil
		}
	}
	project, err := s.here.API.CreateProject(ctx, "users-page")
	if err != nil {
		return err
	}
	created, err := s.here.API.CreateContainer(ctx, project.ID, map[string]any{"server_id": s.here.ID, "name": "page-source", "container_image": image})
	if err != nil {
		return err
	}
	source, err := s.await(ctx, s.here, created, time.Now())
	if err != nil {
		return err
	}
	fleet := userpage.Fleet{API: s.here.API.Base, Token: s.here.API.Token, Settled: func(ctx context.Context, id string) error {
		container, err := s.here.API.Settle(ctx, id)
		if err == nil {
			err = mustRun(container)
		}
		return err
	}}
	cast := userpage.Cast(project.ID, source.ID, s.there.ID, s.here.ID)
	for _, example := range userpage.Stories {
		ids := maps.Clone(cast)
		if example.Script == "before-sync" {
			copied, err := s.copy(ctx, source, s.here, project, "page-copy", nil)
			if err != nil {
				return err
			}
			ids["copy_id"] = copied.ID
		}
		if err := fleet.Tell(ctx, example, ids); err != nil {
			return err
		}
		copies := example.Copies(ids)
		s.fact(true, "%s: %d commands, copies made: %d", example.Script, len(example.Results), len(copies))
		if example.Script == "scenario2" {
			if err := s.automation(ctx, fleet, ids); err != nil {
				return err
			}
		}
		for _, id := range copies { // the examples use the same names
			if err := s.here.API.Delete(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// automation runs the page's scripts for the night, for a team and for a template that has changed.
func (s *story) automation(ctx context.Context, fleet userpage.Fleet, ids map[string]string) error {
	ids = maps.Clone(ids)
	ids["staging_container_id"], ids["source_id"], ids["copy_id"] = ids["alice_copy_id"], ids["template_id"], ids["alice_copy_id"]
	for _, run := range []struct{ script, says string }{
		{"nightly", "Starting nightly staging sync...\nStaging synced successfully\nSync status: copying\n"},
		{"team", "Synced 2 team environments\n"},
		{"conditional", "Source has updates, syncing...\n"},
	} {
		if run.script == "conditional" {
			if err := s.here.API.Do(ctx, http.MethodPatch, "/api/v1/containers/"+ids["source_id"], map[string]any{"comment": "newer"}, nil); err != nil {
				return err
			}
		}
		said, err := fleet.Run(ctx, run.script, ids)
		if err != nil {
			return err
		}
		s.fact(said == run.says, "the script %s says %q", run.script, said)
		for _, copied := range []string{"alice_copy_id", "bob_copy_id"} {
			if err := fleet.Settled(ctx, ids[copied]); err != nil {
				return err
			}
		}
	}
	return nil
}
