package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

// Random transactions by two agents: afterwards both mirrors, one that followed the events and a fresh one that loaded,
// say what etcd's content says when read without any of our code, on every read and index.
func TestMirrorShowsWhatEtcdHolds(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		own := func(o *Options) { o.Prefix = fmt.Sprintf("/round%d/", round) }
		writers := []*Store{beside(t, s, own), beside(t, s, own)}
		defer func() {
			for _, w := range writers {
				_ = w.Close()
			}
		}()
		var last int64
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			writer := rapid.SampledFrom(writers).Draw(rt, "writer")
			steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 6).Draw(rt, "steps")
			revision, err := writer.Update(testContext(t), func(tx *Tx) error {
				for _, step := range steps {
					if err := step.do(tx); err != nil {
						return fmt.Errorf("%s: %w", step.name, err)
					}
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
			last = max(last, revision)
		}
		fresh := beside(t, s, own)
		defer func() { _ = fresh.Close() }()
		want := contentOf(rt, s, writers[0].opts.Prefix)
		for _, reader := range append(writers, fresh) {
			if err := reader.Mirror().waitRevision(testContext(t), last); err != nil {
				rt.Fatal(err)
			}
			want.compare(rt, reader.Mirror())
		}
	})
}

type step struct {
	name string
	do   func(*Tx) error
}

// drawStep draws from few ids, so that records collide, change hands and go.
func drawStep(rt *rapid.T) step {
	id := rapid.StringMatching("[a-c]").Draw(rt, "id")
	other := rapid.StringMatching("[x-z]?").Draw(rt, "other")
	server := rapid.SampledFrom([]string{"s1", "s2"}).Draw(rt, "server")
	state := rapid.SampledFrom([]JobState{JobQueued, JobRunning, JobDone}).Draw(rt, "state")
	jobID := server + "-" + id // ids are unique across servers
	return rapid.SampledFrom([]step{
		{"put project", func(tx *Tx) error {
			return tx.PutProject(Project{ID: id, UserID: other, Permissions: []Permission{{UserID: server}}})
		}},
		{"delete project", func(tx *Tx) error { return tx.DeleteProject(id) }},
		{"put container", func(tx *Tx) error {
			return tx.PutContainer(Container{ID: id, ProjectID: other, ServerID: server, SourceContainerID: other, OwnerID: other})
		}},
		{"delete container", func(tx *Tx) error { return tx.DeleteContainer(id) }},
		{"put history", func(tx *Tx) error {
			return tx.PutHistory(History{ContainerID: id, Snapshots: []Snapshot{{Name: other}}})
		}},
		{"delete history", func(tx *Tx) error { return tx.DeleteHistory(id) }},
		{"put job", func(tx *Tx) error {
			return tx.PutJob(Job{ID: jobID, ServerID: server, State: state, History: longHistory(len(other) * 2)})
		}},
		{"delete job", func(tx *Tx) error { return tx.DeleteJob(server, jobID) }},
		{"put server", func(tx *Tx) error { return tx.PutServer(Server{ID: server, Name: other}) }},
		{"claim", func(tx *Tx) error {
			if holder := tx.UniqueOwner(UniqueSSHKey, "", id); holder != "" {
				return tx.ReleaseUnique(UniqueSSHKey, "", id, holder)
			}
			return tx.ClaimUnique(UniqueSSHKey, "", id, server)
		}},
	}).Draw(rt, "step")
}

// plain is etcd's content by kind and id, as JSON.
type plain map[string]map[string]map[string]any

func contentOf(rt *rapid.T, s *Store, prefix string) plain {
	response, err := s.client.Get(s.client.Ctx(), prefix, clientv3.WithPrefix())
	if err != nil {
		rt.Fatal(err)
	}
	content := make(plain)
	for _, kv := range response.Kvs {
		parts := strings.Split(strings.TrimPrefix(string(kv.Key), prefix), "/")
		kind, id := parts[0], parts[len(parts)-1]
		if content[kind] == nil {
			content[kind] = make(map[string]map[string]any)
		}
		var value any
		if json.Unmarshal(kv.Value, &value) != nil {
			value = string(kv.Value)
		}
		fields, ok := value.(map[string]any)
		if !ok {
			fields = map[string]any{"": value}
		}
		content[kind][id] = fields
	}
	for id, history := range content["jobhistories"] {
		content["jobs"][id]["history"] = history[""]
		delete(content["jobs"][id], "history_digest")
	}
	return content
}

func (p plain) compare(rt *rapid.T, m *Mirror) {
	check := func(what string, want []string, got any) {
		if slices.Sort(want); !reflect.DeepEqual(append([]string{}, want...), got) {
			rt.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	where := func(kind, field, value string) (ids []string) {
		for id, record := range p[kind] {
			if record[field] == value {
				ids = append(ids, id)
			}
		}
		return ids
	}
	same := func(kind string, records []any) {
		got := make(map[string]map[string]any)
		for _, record := range records {
			data, _ := json.Marshal(record)
			var fields map[string]any
			_ = json.Unmarshal(data, &fields)
			id, _ := fields["id"].(string)
			if kind == "histories" {
				id = fields["container_id"].(string)
			}
			got[id] = fields
		}
		if len(got) != len(p[kind]) || len(got) > 0 && !reflect.DeepEqual(got, p[kind]) {
			rt.Errorf("%s: %v, want %v", kind, got, p[kind])
		}
	}
	same("servers", anys(m.Servers()))
	same("projects", anys(m.Projects()))
	same("containers", anys(m.Containers()))
	same("histories", anys(m.Histories()))
	same("jobs", anys(m.Jobs()))
	for _, value := range []string{"x", "y", "z", "s1", "s2"} {
		container := func(c *Container) string { return c.ID }
		check("in project", where("containers", "project_id", value), ids(m.ContainersInProject(value), container))
		check("on server", where("containers", "server_id", value), ids(m.ContainersOnServer(value), container))
		check("copies of", where("containers", "source_container_id", value), ids(m.CopiesOf(value), container))
		var users []string
		for id, project := range p["projects"] {
			grant := project["permissions"].([]any)[0].(map[string]any)
			if project["user_id"] == value || grant["user_id"] == value {
				users = append(users, id)
			}
		}
		check("projects of", users, ids(m.ProjectsOf(value), func(p *Project) string { return p.ID }))
		var open []string
		for _, id := range where("jobs", "server_id", value) {
			if state := p["jobs"][id]["state"]; state == "queued" || state == "running" {
				open = append(open, id)
			}
		}
		check("open jobs", open, ids(m.OpenJobs(value), func(j *Job) string { return j.ID }))
	}
	for _, id := range []string{"a", "b", "c"} {
		owner, _ := m.UniqueOwner(UniqueSSHKey, "", id)
		if want, _ := p["unique"][id][""].(string); owner != want {
			rt.Errorf("owner of %s: %q, want %q", id, owner, want)
		}
		project, ok := m.Project(id)
		if _, want := p["projects"][id]; ok != want || ok && project.ID != id {
			rt.Errorf("project %s: %v, %v", id, project, ok)
		}
	}
	if left := m.Unreadable(); len(left) > 0 {
		rt.Errorf("unreadable: %v", slices.Collect(maps.Keys(left)))
	}
}

func anys[T any](records []*T) []any {
	list := make([]any, len(records))
	for i, record := range records {
		list[i] = record
	}
	return list
}

func ids[T any](records []*T, id func(*T) string) []string {
	list := []string{}
	for _, record := range records {
		list = append(list, id(record))
	}
	return list
}

// What a reader got stays as it was, whatever is written afterwards.
func TestListsAreSnapshots(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t)
	put := func(id, name string) {
		update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: id, Name: name, ProjectID: "p1"}) })
	}
	put("b", "first")
	put("d", "first")
	before, inProject := s.Mirror().Containers(), s.Mirror().ContainersInProject("p1")
	_ = append(before, &Container{ID: "intruder"})
	put("b", "second") // in place, where the mirror's own slice is concerned
	put("a", "new")
	put("c", "new")
	update(t, s, func(tx *Tx) error { return errors.Join(tx.DeleteContainer("d")) })
	names := func(list []*Container) string {
		var all []string
		for _, c := range list {
			all = append(all, c.ID+" "+c.Name)
		}
		return strings.Join(all, ", ")
	}
	for _, list := range [][]*Container{before, inProject} {
		if got := names(list); got != "b first, d first" {
			t.Errorf("a list changed under its reader: %s", got)
		}
	}
	now := s.Mirror().Containers()
	if got := names(now); got != "a new, b second, c new" {
		t.Errorf("now: %s", got)
	}
	update(t, s, func(tx *Tx) error { return errors.Join(tx.DeleteContainer("a"), tx.DeleteContainer("b")) }) // from the front
	put("e", "last")
	if got := names(now); got != "a new, b second, c new" {
		t.Errorf("a list changed under its reader: %s", got)
	}
	if got := names(s.Mirror().Containers()); got != "c new, e last" {
		t.Errorf("in the end: %s", got)
	}
}
