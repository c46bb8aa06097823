package zfs

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

func TestParseChange(t *testing.T) {
	mounts := []string{"/mnt/s", "/"}
	for line, want := range map[string][]agent.Change{ // as zfs diff -H prints, recorded on OpenZFS 2.3.9
		"M\t/mnt/s/a\t(-1)":         {{Path: "a", Kind: agent.ChangeModified}},
		"M\t/mnt/s/":                {{Path: ".", Kind: agent.ChangeModified}},
		"R\t/mnt/s/old\t/mnt/s/new": {{Path: "old", Kind: agent.ChangeRenamed}, {Path: "new", Kind: agent.ChangeRenamed}},
		"+\t/mnt/s/d\\0040i\\0040r/\\0303\\0274\\0040\\0134\\0040t": {{Path: `d i r/ü \ t`, Kind: agent.ChangeAdded}},
		"+\t/mnt/s/tab\\0011here\\0012nl":                           {{Path: "tab\there\nnl", Kind: agent.ChangeAdded}},
		"-\t/mnt/s/gone":                                            {{Path: "gone", Kind: agent.ChangeRemoved}},
		"+\t/mnt/s(on_delete_queue)":                                {{Path: nameless, Kind: agent.ChangeAdded}},
		"M\t/mnt/s(on_delete_queue)\t(-1)":                          {{Path: nameless, Kind: agent.ChangeModified}},
		"R\t/mnt/s/old\t/mnt/s(on_delete_queue)":                    {{Path: "old", Kind: agent.ChangeRenamed}, {Path: nameless, Kind: agent.ChangeRenamed}},
		"M\t/mnt/sx":                                                {{Path: "mnt/sx", Kind: agent.ChangeModified}},
	} {
		if got, err := parseChange(line, mounts); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "M", "X\t/mnt/s/a", "R\t/mnt/s/a", `M	/mnt/s/\00`, `M	/mnt/s/\0999`, `M	/mnt/s/\0777`} {
		if got, err := parseChange(line, mounts); err == nil {
			t.Errorf("%q: %+v", line, got)
		}
	}
	if got, err := parseChange("M\t/elsewhere/a", []string{"/mnt/s"}); err == nil {
		t.Errorf("outside of the mount: %+v", got)
	}
}

func TestMountinfo(t *testing.T) {
	got, err := parseMountinfo(strings.NewReader(readFile(t, recorded+"mountinfo.txt")))
	if err != nil {
		t.Fatal(err)
	}
	want := []mountEntry{
		{"tank", "/tank"},
		{"tank/incus/containers/b1", "/var/lib/incus/storage-pools/default/containers/b1"},
		{"tank/zfstest/containers/c1", "/mnt/s"},
		{"tank/zfstest/containers/c2", "/mnt/a b"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got, err := parseMountinfo(strings.NewReader("nonsense\n")); err == nil {
		t.Errorf("%+v", got)
	}

	p := &Pool{root: "tank/zfstest", mountinfo: recorded + "mountinfo.txt"}
	for name, want := range map[string]bool{"containers/c1": true, "containers/c2": true, "containers": false, "containers/c": false} {
		if got, err := p.Mounted(t.Context(), name); err != nil || got != want {
			t.Errorf("%s mounted: %v, %v", name, got, err)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	f.Add("R\t/mnt/s/old\t/mnt/s/new")
	f.Add("+\t/mnt/s/d\\0040i")
	f.Add("M\t/mnt/s/a\t(-1)")
	f.Fuzz(func(t *testing.T, line string) {
		changes, err := parseChange(line, []string{"/mnt/s"})
		if err == nil && len(changes) == 0 {
			t.Error("no change and no error")
		}
		for _, change := range changes {
			if change.Path == "" {
				t.Errorf("%q: no path", line)
			}
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add(readFile(f, recorded+"mountinfo.txt"))
	f.Add("1 2 0:1 / /a\\040b rw - zfs p/a\\134 rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := parseMountinfo(strings.NewReader(text))
		if len(entries) > strings.Count(text, "\n")+1 {
			t.Error("more mounts than lines")
		}
	})
}
