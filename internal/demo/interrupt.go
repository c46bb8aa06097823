package demo

import (
	"context"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// interrupt: the receiving agent stops in the middle of a stream, and goes on from there when it is started again. With the
// source gone, its copy is the source now.
func (s *story) interrupt(ctx context.Context) error {
	news := s.data / 4
	if err := s.local.random(ctx, "srv/more.bin", 0, news); err != nil {
		return err
	}
	boots := s.there.Host.Boots(s.remote.ID)
	stopped, err := s.there.Host.StopMidway(ctx, news/2)
	if err != nil {
		return err
	}
	began := time.Now()
	created, err := s.here.API.Copy(ctx, s.local.ID, map[string]any{
		"target_project_id": s.other.ID, "target_server_id": s.there.ID, "name": "web-survivor",
	})
	if err != nil {
		return err
	}
	arrived, err := stopped()
	if err != nil {
		return err
	}
	container, err := s.here.API.Container(ctx, created.ID)
	if err != nil {
		return err
	}
	s.fact(arrived >= news/2 && arrived < news && container.Status == contract.ContainerStatusCopying,
		"%s is the source now and has %s more; with %s of that on %s, its agent is stopped. The copy stays %s",
		s.local.Name, size(news), size(arrived), s.there.Name, container.Status)
	if err := s.there.Host.Start(ctx); err != nil {
		return err
	}
	if err := s.survive(ctx, created, began, news); err != nil {
		return err
	}
	remote, err := s.there.API.Container(ctx, s.remote.ID)
	if err != nil {
		return err
	}
	s.fact(remote.Status == contract.ContainerStatusRunning && s.there.Host.Boots(s.remote.ID) == boots,
		"%s ran on all the time", s.remote.Name)
	return nil
}

// survive: the interrupted copy is completed, and what had arrived is not sent again.
func (s *story) survive(ctx context.Context, created client.Created, began time.Time, news int64) error {
	survivor, err := s.await(ctx, s.there, created, began)
	if err != nil {
		return err
	}
	s.fact(survivor.moved >= news && survivor.moved < news*11/10+little, "started again, the agent completes it (%s in all): %s moved, before and after together",
		span(survivor.took), size(survivor.moved))
	return s.same(ctx, s.local.box, survivor.box, "source and copy hold the same files")
}
