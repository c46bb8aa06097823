package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

func TestOldFinishedJobsAreRemoved(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	long, recent := now.Add(-2*time.Hour), now.Add(-time.Minute)
	s := openEmbedded(t, func(o *Options) { o.JobRetention = time.Hour })
	update(t, s, func(tx *Tx) error { return tx.PutServer(Server{ID: "s2"}) })
	put := func(job Job) { update(t, s, func(tx *Tx) error { return tx.PutJob(job) }) }
	for i := range 3*sweepBatch + 1 {
		put(Job{ID: fmt.Sprintf("old%d", i), ServerID: "s1", State: JobDone, FinishedAt: &long, History: longHistory(1)})
	}
	put(Job{ID: "unfinished", ServerID: "s1", State: JobRunning, UpdatedAt: long})
	put(Job{ID: "recent", ServerID: "s1", State: JobFailed, UpdatedAt: long, FinishedAt: &recent})
	put(Job{ID: "registered", ServerID: "s2", State: JobDone, FinishedAt: &long})
	put(Job{ID: "orphan", ServerID: "s3", State: JobDone, FinishedAt: &long})

	if err := s.sweepJobs(testContext(t), now); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, job := range s.Mirror().Jobs() {
		left = append(left, job.ID)
	}
	if got := strings.Join(left, " "); got != "recent registered unfinished" {
		t.Errorf("left: %s", got)
	}
	histories, err := s.client.Get(testContext(t), s.keys.kind(kindJobHistory), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || histories.Count != 0 {
		t.Errorf("%d histories left, %v", histories.Count, err)
	}
}

// A busy server's finished jobs do not fill the store: beyond a day only the newest stay, and those that failed.
func TestOutdatedJobs(t *testing.T) {
	now := time.Now()
	job := func(id string, state JobState, age time.Duration) *Job {
		at := now.Add(-age)
		return &Job{ID: id, State: state, FinishedAt: &at}
	}
	jobs := []*Job{
		job("new", JobDone, time.Hour), job("yesterday's", JobDone, 60*time.Hour), job("older", JobDone, 61*time.Hour), job("oldest", JobDone, 62*time.Hour),
		job("failed", JobFailed, 70*time.Hour), job("failed long ago", JobFailed, 8*24*time.Hour), {ID: "open", State: JobRunning},
	}
	for newest, want := range map[int]string{2: "failed long ago older oldest", 3: "failed long ago oldest", 9: "failed long ago", 0: "failed long ago older oldest yesterday's"} {
		var got []string
		for _, old := range outdated(jobs, now, 7*24*time.Hour, newest) {
			got = append(got, old.ID)
		}
		slices.Sort(got)
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%d stay: %s are outdated, want %s", newest, got, want)
		}
	}
}

// However young they are, and however they ended: some thousand an hour would fill the store long before they are old.
func TestTooManyFinishedJobs(t *testing.T) {
	now := time.Now()
	var jobs []*Job
	for i := range muchTooMany*200 + 50 {
		at := now.Add(-time.Duration(i) * time.Second)
		jobs = append(jobs, &Job{ID: fmt.Sprint(i), State: []JobState{JobDone, JobFailed, JobCancelled}[i%3], FinishedAt: &at})
	}
	old := outdated(jobs, now, 7*24*time.Hour, 200)
	if len(old) != 50 || old[0].ID != fmt.Sprint(muchTooMany*200) {
		t.Errorf("%d are outdated, from %s on", len(old), old[0].ID)
	}
}

func TestHouseIsKeptInTheBackground(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.JobRetention, o.Housekeeping = time.Nanosecond, 10*time.Millisecond })
	jobs := s.Mirror().Subscribe(KindJob)
	defer jobs.Close()
	update(t, s, func(tx *Tx) error { return tx.PutJob(Job{ID: "j1", ServerID: "s1", State: JobDone}) })
	next(t, jobs)
	if old, new := Records[Job](next(t, jobs)); old == nil || new != nil {
		t.Errorf("want the job's removal, got %v -> %v", old, new)
	}
}

func TestQuotaIsRelieved(t *testing.T) {
	t.Parallel()
	s := openEmbedded(t, func(o *Options) { o.Embedded.QuotaBytes = 16 << 20 })
	condition := func() Condition {
		condition, err := s.Condition(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return condition
	}
	if c := condition(); c.Size == 0 || c.InUse == 0 || c.InUse > c.Size || c.Quota != 16<<20 || len(c.Alarms) != 0 {
		t.Errorf("to begin with: %+v", c)
	}
	fill := strings.Repeat("x", 1<<20)
	var err error
	for i := range 64 {
		_, err = s.Update(testContext(t), func(tx *Tx) error {
			return tx.PutContainer(Container{ID: "c1", Image: fmt.Sprint(i, fill)})
		})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, errdefs.ErrExhausted) || !errors.Is(err, ErrFull) {
		t.Fatalf("beyond the quota: %v", err)
	}
	eventually(t, "the alarm to be raised", func() bool { return slices.Equal(condition().Alarms, []string{AlarmNoSpace}) })
	beside(t, s) // opens a store that is full; another process than etcd's own can do nothing about it
	if err := s.relieveQuota(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if left := condition().Alarms; len(left) > 0 {
		t.Errorf("alarms left: %v", left)
	}
	update(t, s, func(tx *Tx) error { return tx.PutContainer(Container{ID: "c1"}) })
}

// The alarm outlives a restart, and so does the agent that makes room.
func TestAFullStoreIsOpened(t *testing.T) {
	t.Parallel()
	quota := func(o *Options) { o.Embedded.QuotaBytes = 16 << 20 }
	s := openEmbedded(t, quota)
	var err error
	for i := 0; err == nil; i++ {
		_, err = s.Update(testContext(t), func(tx *Tx) error {
			return tx.PutContainer(Container{ID: "c1", Image: fmt.Sprint(i, strings.Repeat("x", 1<<20))})
		})
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	opts := s.opts
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, opts)
	update(t, again, func(tx *Tx) error { return tx.PutContainer(Container{ID: "c1"}) })
	register(t, again, Server{ID: "s1"})
}

func TestStepped(t *testing.T) {
	for _, c := range []struct {
		wall, passed time.Duration
		want         bool
	}{
		{10 * time.Minute, 10 * time.Minute, false},
		{10*time.Minute + 300*time.Millisecond, 10 * time.Minute, false},
		{8 * 24 * time.Hour, 10 * time.Minute, true},
		{-time.Hour, 10 * time.Minute, true},
	} {
		if got := stepped(c.wall, c.passed); got != c.want {
			t.Errorf("%s in %s: %t", c.wall, c.passed, got)
		}
	}
}
