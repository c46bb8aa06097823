package agent

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

func sampleRecord() recordFile {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	alias := "before the upgrade"
	return newRecordFile(
		store.Container{ID: "c1", ProjectID: "p1", OwnerID: "u1", ServerID: "s1", Name: "web", SourceContainerID: "c0", IDMap: "[]", JobID: "j1",
			PendingFreezes: []string{"j2"}, Generation: store.Generation{Marker: store.SnapshotRef{GUID: 1 << 63, Name: "m"}, Base: 7}, CreatedAt: at},
		store.History{ContainerID: "c1", Snapshots: []store.Snapshot{{Name: "one", Alias: &alias, GUID: 9, CreatedAt: at, ExpiresAt: &at}}},
		store.Project{ID: "p1", UserID: "u1", Alias: "prod", Containers: 4, Permissions: []store.Permission{{UserID: "u2", Level: store.PermissionEdit}}},
	)
}

func TestRecordFileReadsBackWhatItWrote(t *testing.T) {
	want := sampleRecord()
	data, err := encodeRecordFile(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRecordFile("c1.json", data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Container.JobID != "" || got.Container.PendingFreezes != nil || got.Project.Containers != 0 {
		t.Error("the file holds what only the store it came from can make sense of")
	}
}

func TestRecordFileRefusesWhatItDoesNotUnderstand(t *testing.T) {
	data, err := encodeRecordFile(sampleRecord())
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, test := range map[string]struct {
		file, content string
		class         error
	}{
		"empty":               {"c1.json", "", errdefs.ErrCorrupt},
		"cut off":             {"c1.json", good[:len(good)/2], errdefs.ErrCorrupt},
		"two of them":         {"c1.json", good + good, errdefs.ErrCorrupt},
		"a later version":     {"c1.json", strings.Replace(good, `"version":2`, `"version":3`, 1), errdefs.ErrUnsupported},
		"no version":          {"c1.json", strings.Replace(good, `"version":2,`, ``, 1), errdefs.ErrUnsupported},
		"an unknown field":    {"c1.json", strings.Replace(good, `"version":2`, `"version":2,"shape":"round"`, 1), errdefs.ErrCorrupt},
		"another container's": {"c2.json", good, errdefs.ErrCorrupt},
		"another project's":   {"c1.json", strings.Replace(good, `"project_id":"p1"`, `"project_id":"p2"`, 1), errdefs.ErrCorrupt},
		"another owner's":     {"c1.json", strings.Replace(good, `"owner_id":"u1"`, `"owner_id":"u2"`, 1), errdefs.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeRecordFile(test.file, []byte(test.content)); !errors.Is(err, test.class) {
				t.Errorf("got %v, want %v", err, test.class)
			}
		})
	}
}

func TestReplacedFilesAreReadWithoutWhatACrashLeft(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, step := range []error{
		replaceFile(root, "a.json", []byte("old")), replaceFile(root, "a.json", []byte("new")),
		root.WriteFile(".b.json.new", []byte("half"), 0o600), root.Symlink("/etc/passwd", "c.json"), root.Mkdir("d.json", 0o700),
		syncDirectory(root),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	files, unreadable, err := readRecordFiles(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{"a.json": []byte("new")}, files); diff != "" {
		t.Error(diff)
	}
	if unreadable["c.json"] == nil || unreadable["d.json"] == nil || len(unreadable) != 2 {
		t.Errorf("unreadable: %v", unreadable)
	}
}
