package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// recordsDataset holds a file for each container of this server: what `recover` reads when the store is gone.
const recordsDataset = "hoody/records"

const (
	recordVersion = 2 // 2 has edited_at, and is 1 otherwise
	recordSuffix  = ".json"
	maxRecordSize = 8 << 20 // 1,000 snapshots take less than half a megabyte
)

// recordFile is one container's file, whole: nothing else is needed to put the container back into an empty store. It
// holds no private key, as the store holds none.
type recordFile struct {
	Version   int              `json:"version"`
	Container store.Container  `json:"container"` // as of the last change, without the operation under way
	Snapshots []store.Snapshot `json:"snapshots"` // oldest first
	Project   store.Project    `json:"project"`
}

// newRecordFile puts together what is to be kept of a container.
func newRecordFile(container store.Container, history store.History, project store.Project) recordFile {
	container.JobID, container.PendingFreezes = "", nil // of no use to another store, and they change all the time
	project.Containers = 0                              // counted anew by who recovers
	return recordFile{Version: recordVersion, Container: container, Snapshots: history.Snapshots, Project: project}
}

func encodeRecordFile(file recordFile) ([]byte, error) {
	data, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("record file of container %s: %w: %w", file.Container.ID, errdefs.ErrInternal, err)
	}
	return append(data, '\n'), nil
}

// decodeRecordFile reads a file of the given name, and refuses what it does not fully understand: half a record put
// back would pass for a whole one.
func decodeRecordFile(name string, data []byte) (recordFile, error) {
	corrupt := func(format string, args ...any) (recordFile, error) {
		return recordFile{}, fmt.Errorf("record file %s: %w: %w", name, errdefs.ErrCorrupt, fmt.Errorf(format, args...))
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return corrupt("%w", err)
	}
	if head.Version < 1 || head.Version > recordVersion {
		return recordFile{}, fmt.Errorf("record file %s: version %d, this agent knows 1 to %d: %w", name, head.Version, recordVersion, errdefs.ErrUnsupported)
	}
	var file recordFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return corrupt("%w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return corrupt("something follows the record")
	}
	switch {
	case recordFileName(file.Container.ID) != name:
		return corrupt("it is of container %q", file.Container.ID)
	case file.Project.ID == "" || file.Project.ID != file.Container.ProjectID:
		return corrupt("its project is %q, the container's %q", file.Project.ID, file.Container.ProjectID)
	case file.Container.OwnerID == "" || file.Container.OwnerID != file.Project.UserID:
		return corrupt("its owner is %q, the project's %q", file.Container.OwnerID, file.Project.UserID)
	}
	return file, nil
}

func recordFileName(containerID string) string { return containerID + recordSuffix }

// containerOfRecord is the inverse of recordFileName; ok is false for files that are something else.
func containerOfRecord(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, recordSuffix)
	return id, ok && id != "" && !strings.HasPrefix(id, ".")
}

// replaceFile writes a file's new content under another name and renames it, so that a crash leaves the old file or the
// new one. The directory is the caller's to sync.
func replaceFile(root *os.Root, name string, data []byte) (err error) {
	temporary := "." + name + ".new"
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return root.Rename(temporary, name)
}

func syncDirectory(root *os.Root) error {
	directory, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// readRecordFiles reads what is in the records' dataset, by file name. What cannot be read is among the errors.
func readRecordFiles(root *os.Root) (files map[string][]byte, unreadable map[string]error, err error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, nil, err
	}
	files, unreadable = make(map[string][]byte), make(map[string]error)
	for _, entry := range entries {
		if _, ok := containerOfRecord(entry.Name()); !ok {
			continue
		}
		data, err := readBounded(root, entry.Name())
		if err != nil {
			unreadable[entry.Name()] = err
			continue
		}
		files[entry.Name()] = data
	}
	return files, unreadable, nil
}

func readBounded(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecordSize {
		return nil, fmt.Errorf("record file %s: %s of %d bytes: %w", name, info.Mode().Type(), info.Size(), errdefs.ErrCorrupt)
	}
	return root.ReadFile(name)
}

// sameBytes spares a write where nothing changed.
func sameBytes(files map[string][]byte, name string, data []byte) bool {
	was, ok := files[name]
	return ok && slices.Equal(was, data)
}
