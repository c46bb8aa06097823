package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// recordKeeper writes the records of this server's containers into the pool, and stamps the pool with how far they have
// come. It is for one goroutine.
type recordKeeper struct {
	*Agent
	sums    map[string][sha256.Size]byte // digest of each file, by name; nil before the first pass
	changed map[string]bool              // containers that something was heard of since the last write
}

// keepRecords notes in the pool, a moment after each change, what the records of this server say. Changes that come
// together are written together: at most once per RecordInterval, and not at all when nothing changes.
func (a *Agent) keepRecords(ctx context.Context) error {
	changes := a.store.Mirror().Subscribe(store.KindContainer, store.KindHistory, store.KindProject)
	defer changes.Close()
	k := &recordKeeper{Agent: a, changed: make(map[string]bool)}
	k.write(ctx)
	pause := time.NewTimer(a.options.RecordInterval)
	defer pause.Stop()
	for {
		var due <-chan time.Time
		if len(k.changed) > 0 || k.sums == nil {
			due = pause.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, open := <-changes.Changes():
			if !open {
				return storeClosed()
			}
			k.hear(change)
		case <-due:
			k.write(ctx)
			pause.Reset(a.options.RecordInterval)
		}
	}
}

// hear notes whose file a change is about.
func (k *recordKeeper) hear(change store.Change) {
	switch {
	case change.Resync:
		k.sums = nil
	case change.Kind == store.KindProject:
		for _, container := range k.store.Mirror().ContainersInProject(change.ID) {
			if container.ServerID == k.serverID {
				k.changed[container.ID] = true
			}
		}
	case change.Kind == store.KindHistory:
		if container, ok := k.store.Mirror().Container(change.ID); ok && container.ServerID == k.serverID {
			k.changed[change.ID] = true
		}
	default:
		old, new := store.Records[store.Container](change)
		if old != nil && old.ServerID == k.serverID || new != nil && new.ServerID == k.serverID {
			k.changed[change.ID] = true
		}
	}
}

// write brings the files and the stamp up to what the mirror says. What fails is tried again after the next pause. Records
// that are not the pool's touch neither: the files may be the only ones left.
func (k *recordKeeper) write(ctx context.Context) {
	if k.Degraded() != nil {
		k.sums = nil // for when they are trusted again
		clear(k.changed)
		return
	}
	err := k.trusted(ctx)
	if err == nil {
		err = k.writeFiles(ctx)
	}
	if err == nil {
		if err = k.writeStamp(ctx); err != nil {
			k.sums = nil // to come back here without another change
		}
	}
	if err != nil && ctx.Err() == nil {
		k.log.Warn("records not written into the pool; tries again", zap.Error(err))
	}
}

// writeFiles replaces the files of what changed; at the first pass it compares all of them.
func (k *recordKeeper) writeFiles(ctx context.Context) error {
	if k.sums == nil {
		return k.withTree(ctx, recordsDataset, func(mount Mount) error { return k.compareAll(mount.Root()) })
	}
	update := make(map[string][]byte) // nil for a file that goes
	for id := range k.changed {
		name := recordFileName(id)
		known, exists := k.sums[name]
		if k.gone(id) {
			if exists {
				update[name] = nil
			}
			continue
		}
		data, err := k.recordOf(id)
		if err != nil {
			return err
		}
		if data != nil && (!exists || known != sha256.Sum256(data)) {
			update[name] = data
		}
	}
	if len(update) > 0 {
		if err := k.withTree(ctx, recordsDataset, func(mount Mount) error { return k.replace(mount.Root(), update) }); err != nil {
			return err
		}
	}
	clear(k.changed)
	return nil
}

// compareAll makes the files those of the mirror, whatever happened while the agent was down.
func (k *recordKeeper) compareAll(root *os.Root) error {
	files, unreadable, err := readRecordFiles(root)
	if err != nil {
		return err
	}
	for name, err := range unreadable {
		k.log.Error("record file not readable; it is replaced if its container exists", zap.String("file", name), zap.Error(err))
	}
	update := make(map[string][]byte)
	for _, container := range k.store.Mirror().ContainersOnServer(k.serverID) {
		data, err := k.recordOf(container.ID)
		if err != nil {
			return err
		}
		if data == nil {
			continue // left the mirror since it was listed; whether its file goes is decided below
		}
		if name := recordFileName(container.ID); !sameBytes(files, name, data) {
			update[name] = data
		}
	}
	for name := range files {
		if id, _ := containerOfRecord(name); k.gone(id) {
			update[name] = nil
		}
	}
	k.sums = make(map[string][sha256.Size]byte, len(files))
	for name, data := range files {
		k.sums[name] = sha256.Sum256(data)
	}
	if err := k.replace(root, update); err != nil {
		k.sums = nil
		return err
	}
	clear(k.changed)
	return nil
}

// replace writes and removes files, in one go.
func (k *recordKeeper) replace(root *os.Root, update map[string][]byte) error {
	if len(update) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(update)) {
		data := update[name]
		if data == nil {
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove record file %s: %w", name, err)
			}
			delete(k.sums, name)
			continue
		}
		if err := replaceFile(root, name, data); err != nil {
			return fmt.Errorf("write record file %s: %w", name, err)
		}
		k.sums[name] = sha256.Sum256(data)
	}
	return syncDirectory(root)
}

// gone tells whether a container was deleted. While records cannot be read, one may only seem to be.
func (k *recordKeeper) gone(id string) bool {
	_, exists := k.store.Mirror().Container(id)
	return !exists && len(k.store.Mirror().Unreadable()) == 0
}

// unreadable tells whether a record is in the store that cannot be read.
func (k *recordKeeper) unreadable(kind store.Kind, id string) bool {
	for key := range k.store.Mirror().Unreadable() {
		if strings.HasSuffix(key, "/"+string(kind)+"/"+id) {
			return true
		}
	}
	return false
}

// recordOf is the content of a container's file as the mirror has it; nil when the mirror does not have it, or not all of it can be read:
// the file may hold the last copy.
func (k *recordKeeper) recordOf(id string) ([]byte, error) {
	mirror := k.store.Mirror()
	container, ok := mirror.Container(id)
	if !ok {
		return nil, nil
	}
	project := store.Project{ID: container.ProjectID, UserID: container.OwnerID}
	knownProject, hasProject := mirror.Project(container.ProjectID)
	if hasProject {
		project = *knownProject
	}
	var history store.History
	knownHistory, hasHistory := mirror.History(id)
	if hasHistory {
		history = *knownHistory
	}
	if !hasProject && k.unreadable(store.KindProject, project.ID) || !hasHistory && k.unreadable(store.KindHistory, id) {
		return nil, nil
	}
	return encodeRecordFile(newRecordFile(*container, history, project))
}
