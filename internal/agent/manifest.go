package agent

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// manifest describes what a frozen job may fetch, from the pool as it is now: the source may have been renamed aside,
// promoted or deleted since, its snapshots are found by GUID.
func (a *Agent) manifest(ctx context.Context, job store.Job) (Manifest, error) {
	release, err := a.pins.share(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer release()
	inventory, err := a.pool.Inventory(ctx)
	if err != nil {
		return Manifest{}, err
	}
	target, err := a.store.GetContainer(ctx, job.ContainerID)
	if err != nil {
		return Manifest{}, err
	}
	located := lineage.Locate(ownedBy(inventory, target.OwnerID)) // the source's owner, too; the source itself may be gone
	manifest := Manifest{Protocol: PeerProtocol, Series: true, Wanted: []lineage.GUID{job.Freeze.GUID}}
	for _, snapshot := range job.History {
		if _, held := located[snapshot.GUID]; held && !slices.Contains(manifest.Wanted, snapshot.GUID) {
			manifest.Wanted = append(manifest.Wanted, snapshot.GUID)
		}
	}
	heads := make([]string, 0, len(manifest.Wanted))
	for _, guid := range manifest.Wanted {
		name, held := located[guid]
		if !held {
			return Manifest{}, errdefs.New(errdefs.ErrNotFound, "", "snapshot %s of container %s is gone", guid, job.SourceID)
		}
		heads = append(heads, name)
	}
	if manifest.Nodes, err = lineage.Ancestry(inventory, heads...); err != nil {
		return Manifest{}, fmt.Errorf("lineage of container %s: %w", job.SourceID, err)
	}
	// The image at the root travels as a snapshot of its own: the next container made from it moves only what it added.
	for _, node := range manifest.Nodes {
		if node.Parent == 0 && !node.Bookmark && isImage(node.Dataset) && !slices.Contains(manifest.Wanted, node.GUID) {
			manifest.Wanted = append(manifest.Wanted, node.GUID)
		}
	}
	a.manifests.put(job.ID, manifest)
	return manifest, nil
}

// isImage tells whether a dataset, or a snapshot of it, is an image of the runtime.
func isImage(name string) bool { return strings.HasPrefix(name, "images/") }

// OpenStream is Source.Stream for a peer: it sends only what the job's manifest names.
func (a *Agent) OpenStream(ctx context.Context, peer string, request StreamRequest) (io.ReadCloser, error) {
	job, manifest, err := a.served(ctx, peer, request.JobID)
	if err != nil {
		return nil, err
	}
	spec, err := manifest.send(request)
	if err != nil {
		return nil, err
	}
	if request.Token != "" {
		// A token is a peer's word about what to send; it counts only for the very stream that the manifest allows.
		point, err := a.pool.DescribeToken(ctx, request.Token)
		if err != nil {
			return nil, err
		}
		if point.To != request.To || point.From != request.From {
			return nil, errdefs.New(errdefs.ErrPermissionDenied, "", "resume token is for another stream")
		}
		if point.Raw || point.Embed && !request.Embed {
			return nil, errdefs.New(errdefs.ErrStale, "", "resume token is of a stream with other flags")
		}
		spec = SendSpec{Token: request.Token}
	}
	release, err := a.pins.share(ctx)
	if err != nil {
		return nil, err
	}
	defer release() // from here on ZFS keeps what is being sent
	stream, err := a.pool.Send(ctx, spec)
	if err != nil {
		a.manifests.drop(job.ID) // names may have changed since; the next request looks again
		return nil, err
	}
	return stream, nil
}

// send translates GUIDs into this pool's names.
func (m Manifest) send(request StreamRequest) (SendSpec, error) {
	spec := SendSpec{Embed: request.Embed}
	for _, node := range m.Nodes {
		switch {
		case node.GUID == request.To && !node.Bookmark:
			spec.To = node.Dataset + "@" + node.Name
		case node.GUID == request.From && node.Bookmark:
			spec.From = node.Dataset + "#" + node.Name
		case node.GUID == request.From:
			spec.From = node.Dataset + "@" + node.Name
		}
	}
	if spec.To == "" || request.From != 0 && spec.From == "" {
		// It may have been, and be gone since, from a manifest that was made anew. Who may ask at all was looked at before.
		return SendSpec{}, errdefs.New(errdefs.ErrNotFound, "", "snapshot %s from %s is not part of job %s", request.To, request.From, request.JobID)
	}
	if len(request.Between) > 0 {
		if !m.series(request) {
			return SendSpec{}, errdefs.New(errdefs.ErrNotFound, "", "what lies between the snapshots %s and %s of job %s is not what was asked for", request.From, request.To, request.JobID)
		}
		spec.Series = true
	}
	return spec, nil
}

// series tells whether From, what lies between, and To are snapshots of one dataset of which each is the next one's parent.
func (m Manifest) series(request StreamRequest) bool {
	nodes := make(map[lineage.GUID]lineage.Node, len(m.Nodes))
	for _, node := range m.Nodes {
		if !node.Bookmark {
			nodes[node.GUID] = node
		}
	}
	older := request.From
	for _, guid := range append(slices.Clone(request.Between), request.To) {
		before, known := nodes[older]
		if node := nodes[guid]; !known || node.Parent != older || node.Dataset != before.Dataset {
			return false
		}
		older = guid
	}
	return true
}

// manifestCache keeps the manifests of jobs being served, so that a stream does not cost an inventory. It forgets the
// oldest past its bound; a forgotten one is made again.
type manifestCache struct {
	mu    sync.Mutex
	order []string
	byJob map[string]Manifest
}

const maxManifests = 64

func newManifestCache() *manifestCache { return &manifestCache{byJob: make(map[string]Manifest)} }

func (c *manifestCache) put(jobID string, manifest Manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.byJob[jobID]; !known {
		c.order = append(c.order, jobID)
	}
	c.byJob[jobID] = manifest
	if len(c.order) > maxManifests {
		delete(c.byJob, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *manifestCache) get(jobID string) (Manifest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	manifest, known := c.byJob[jobID]
	return manifest, known
}

func (c *manifestCache) drop(jobID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byJob, jobID)
	c.order = slices.DeleteFunc(c.order, func(id string) bool { return id == jobID })
}
