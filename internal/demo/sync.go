package demo

import (
	"context"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// localFile is what somebody made on a copy.
const localFile = "srv/local-notes.txt"

// syncChanged: a sync moves what changed, and what the copy had of its own is gone, apart from its identity.
func (s *story) syncChanged(ctx context.Context) error {
	did, err := s.sync(ctx, s.remote)
	if err != nil {
		return err
	}
	s.fact(did.moved == 0 && !did.noOp, "what the five brought to %s does not travel for a sync: %s moved (%s)", s.there.Name, size(did.moved), span(did.took))
	if err := s.there.API.Delete(ctx, s.kept.ID); err != nil {
		return err
	}

	identity, err := identityOf(ctx, s.remote.box)
	if err != nil {
		return err
	}
	if err := s.changeBoth(ctx); err != nil {
		return err
	}
	if did, err = s.sync(ctx, s.remote); err != nil {
		return err
	}
	s.fact(did.moved >= s.change && did.moved < s.change*11/10+little,
		"%s of %s changed in the source: %s moved (%s, the copy was down for %s)",
		size(s.change), size(s.data), size(did.moved), span(did.took), span(did.down))
	if err := s.same(ctx, s.source.box, s.remote.box, "source and copy hold the same files again"); err != nil {
		return err
	}
	local, err := s.remote.read(ctx, localFile)
	if err != nil {
		return err
	}
	s.fact(local == "", "the copy's local changes are gone")
	kept, err := s.identityKept(ctx, identity)
	if err != nil {
		return err
	}
	s.fact(kept, "its id, name, project, SSH keys, machine id and environment are as before")

	if did, err = s.sync(ctx, s.local); err != nil {
		return err
	}
	s.fact(did.moved == 0 && !did.noOp, "the copy on the source's own server: %s moved (%s, down for %s)",
		size(did.moved), span(did.took), span(did.down))
	return s.same(ctx, s.source.box, s.local.box, "it holds the source's files as well")
}

// changeBoth changes the source in the middle of its data, and the copy.
func (s *story) changeBoth(ctx context.Context) error {
	if err := s.source.random(ctx, bigFile, s.data/2, s.change); err != nil {
		return err
	}
	if err := s.source.write(ctx, smallFile, "version 4\n"); err != nil {
		return err
	}
	if err := s.remote.write(ctx, localFile, "made on the copy\n"); err != nil {
		return err
	}
	return s.remote.write(ctx, smallFile, "changed on the copy\n")
}

// identityKept tells whether the remote copy is still itself.
func (s *story) identityKept(ctx context.Context, before identity) (bool, error) {
	after, err := identityOf(ctx, s.remote.box)
	if err != nil {
		return false, err
	}
	container, err := s.there.API.Container(ctx, s.remote.ID)
	if err != nil {
		return false, err
	}
	return after == before && sameRecord(container, s.remote.Container), nil
}

func sameRecord(a, b contract.Container) bool {
	return a.ID == b.ID && a.Name == b.Name && a.ProjectID == b.ProjectID && a.ServerID == b.ServerID &&
		keyOf(a) == keyOf(b) && a.EnvironmentVars["STAGE"] == b.EnvironmentVars["STAGE"]
}

// syncUnchanged: nothing happens when nothing changed, and little when only the copy did.
func (s *story) syncUnchanged(ctx context.Context) error {
	for _, copied := range []made{s.remote, s.local} {
		boots := copied.server.Host.Boots(copied.ID)
		did, err := s.sync(ctx, copied)
		if err != nil {
			return err
		}
		s.fact(did.noOp && did.moved == 0 && copied.server.Host.Boots(copied.ID) == boots,
			"neither side changed: nothing is done to %s, it is not even restarted (%s)", copied.Name, span(did.took))
	}
	if err := s.remote.write(ctx, localFile, "made on the copy\n"); err != nil {
		return err
	}
	did, err := s.sync(ctx, s.remote)
	if err != nil {
		return err
	}
	s.fact(!did.noOp && did.moved == 0, "only %s changed: %s moved (%s)", s.remote.Name, size(did.moved), span(did.took))
	return s.same(ctx, s.source.box, s.remote.box, "it holds the source's files again")
}
