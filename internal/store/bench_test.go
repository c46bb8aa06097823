package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	benchContainers = 10_000
	benchProjects   = 1_000
)

// fleet is a mirror of 10,000 containers in 1,000 projects of 100 users on 50 servers.
func fleet(b *testing.B) *Mirror {
	b.Helper()
	m := newMirror(keyspace(DefaultPrefix), zap.NewNop())
	var events []*clientv3.Event
	add := func(kind Kind, id string, record any) {
		value, err := encode(id, record)
		if err != nil {
			b.Fatal(err)
		}
		events = append(events, &clientv3.Event{Kv: &mvccpb.KeyValue{
			Key: []byte(m.keys.record(kind, id)), Value: []byte(value), ModRevision: int64(len(events) + 1)}})
	}
	for i := range benchProjects {
		id := fmt.Sprintf("p%04d", i)
		add(KindProject, id, Project{ID: id, UserID: fmt.Sprintf("u%d", i%100), Alias: id})
	}
	for i := range benchContainers {
		id := fmt.Sprintf("c%05d", i)
		add(KindContainer, id, benchContainer(i))
	}
	m.advance(events, int64(len(events)), true)
	return m
}

func benchContainer(i int) Container {
	id := fmt.Sprintf("c%05d", i)
	return Container{
		ID: id, Name: id, ProjectID: fmt.Sprintf("p%04d", i%benchProjects), ServerID: fmt.Sprintf("s%d", i%50),
		OwnerID: fmt.Sprintf("u%d", i%100), Status: StatusRunning, RealmIDs: []string{"r1", "r2"},
		Env: map[string]string{"A": "b"}, CreatedAt: time.Unix(int64(i*7919%benchContainers), 0),
	}
}

// BenchmarkListPage is a listing of the API over the whole fleet: filter, sort by creation, cut a page.
func BenchmarkListPage(b *testing.B) {
	m := fleet(b)
	durations := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		start := time.Now()
		var selected []*Container
		for _, c := range m.Containers() {
			if c.Status == StatusRunning && slices.Contains(c.RealmIDs, "r2") {
				selected = append(selected, c)
			}
		}
		slices.SortFunc(selected, func(a, b *Container) int { return b.CreatedAt.Compare(a.CreatedAt) })
		if len(selected[:50]) != 50 {
			b.Fatal("no page")
		}
		durations = append(durations, time.Since(start))
	}
	slices.Sort(durations)
	b.ReportMetric(float64(durations[len(durations)*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkContainersInProject(b *testing.B) {
	m := fleet(b)
	for b.Loop() {
		if len(m.ContainersInProject("p0500")) != benchContainers/benchProjects {
			b.Fatal("wrong count")
		}
	}
}

func BenchmarkGetContainer(b *testing.B) {
	m := fleet(b)
	for b.Loop() {
		if _, ok := m.Container("c05000"); !ok {
			b.Fatal("missing")
		}
	}
}

// BenchmarkApplyWhileListed is one event when every list was handed out since the last one: the worst case for a write.
func BenchmarkApplyWhileListed(b *testing.B) {
	m := fleet(b)
	value, _ := encode("", benchContainer(5000))
	revision := m.Revision()
	for b.Loop() {
		m.Containers()
		m.ContainersOnServer("s0")
		revision++
		m.advance([]*clientv3.Event{{Kv: &mvccpb.KeyValue{
			Key: []byte(m.keys.record(KindContainer, "c05000")), Value: []byte(value), ModRevision: revision}}}, revision, true)
	}
}

// BenchmarkUpdate is a read and a write of one container, until the mirror shows it.
func BenchmarkUpdate(b *testing.B) {
	s := openEmbedded(b, func(o *Options) { o.Logger = zap.NewNop() })
	update(b, s, func(tx *Tx) error { return tx.PutContainer(benchContainer(1)) })
	i := 0
	for b.Loop() {
		i++
		update(b, s, func(tx *Tx) error {
			c, err := tx.Container("c00001")
			if err != nil {
				return err
			}
			c.Name = fmt.Sprint(i)
			return tx.PutContainer(c)
		})
	}
}

// BenchmarkUpdateParallel is the same by eight writers per core, each on a record of its own.
func BenchmarkUpdateParallel(b *testing.B) {
	s := openEmbedded(b, func(o *Options) { o.Logger = zap.NewNop() })
	ids := make(chan string, 64)
	for i := range cap(ids) {
		ids <- fmt.Sprint("c", i)
	}
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		id := <-ids
		for i := 0; pb.Next(); i++ {
			_, err := s.Update(b.Context(), func(tx *Tx) error { return tx.PutContainer(Container{ID: id, Name: fmt.Sprint(i)}) })
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkOpen is opening a store of 10,000 containers on an etcd that runs.
func BenchmarkOpen(b *testing.B) {
	s := openEmbedded(b, func(o *Options) { o.Logger = zap.NewNop() })
	for i := 0; i < benchContainers; i += 50 {
		update(b, s, func(tx *Tx) error {
			for j := range 50 {
				if err := tx.PutContainer(benchContainer(i + j)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for b.Loop() {
		other := beside(b, s)
		if len(other.Mirror().Containers()) != benchContainers {
			b.Fatal("incomplete")
		}
		_ = other.Close()
	}
}
