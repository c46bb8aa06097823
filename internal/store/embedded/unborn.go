package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
)

// discardUnborn removes the data of a member that ended within the first moments of its very first start, between
// making its log and writing the first entry to it, which is the one that says who votes. etcd takes such data for a
// member's, elects nobody and is never ready, at every start from then on. The log is read first: it is removed only
// when it is its own first segment and holds no entry at all, so nothing can have been written to the store.
func discardUnborn(data string) error {
	log := filepath.Join(data, "member", "wal")
	segments, err := filepath.Glob(filepath.Join(log, "*.wal"))
	if err != nil || len(segments) != 1 {
		return err
	}
	snapshots, err := filepath.Glob(filepath.Join(data, "member", "snap", "*.snap"))
	if err != nil || len(snapshots) > 0 {
		return err
	}
	empty, err := emptyLog(log)
	if err != nil || !empty {
		return err
	}
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("remove data of a member that never began: %w", err)
	}
	return nil
}

func emptyLog(dir string) (bool, error) {
	log, err := wal.OpenForRead(zap.NewNop(), dir, &walpb.Snapshot{})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, wal.ErrFileNotFound) {
		return false, nil // does not begin at the beginning
	}
	if err != nil {
		return false, fmt.Errorf("read log of embedded etcd: %w", err)
	}
	defer func() { _ = log.Close() }()
	_, state, entries, err := log.ReadAll()
	if err != nil {
		return false, nil // etcd knows better what to do about, and say of, a damaged log
	}
	return len(entries) == 0 && raft.IsEmptyHardState(state), nil
}
