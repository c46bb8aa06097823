package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// seriesSize is how much each snapshot of a lineage changes.
const seriesSize = 2 * mib

// lineageOf makes a dataset with snapshots s0 to the last, and another that has s0.
func lineageOf(s *sandbox, last int) (source, target string, all []agent.Incoming) {
	s.Helper()
	source, target = s.create("d"), s.name("copy")
	for i := range last + 1 {
		name := fmt.Sprint("s", i)
		s.write(source, "rootfs/data", noise(uint64(i), seriesSize))
		s.write(source, "rootfs/"+name, []byte(name))
		all = append(all, agent.Incoming{Name: name, GUID: s.snapshot(source, name).GUID})
	}
	s.receive(target+"@s0", "", s.send(agent.SendSpec{To: source + "@s0"}))
	return source, target, all
}

// series is the stream that leads from one snapshot of a dataset to another through all between.
func (s *sandbox) series(dataset, from, to string) []byte {
	s.Helper()
	return s.send(agent.SendSpec{From: dataset + "@" + from, To: dataset + "@" + to, Series: true})
}

// receiveSeries receives a stream that has to bring these snapshots.
func (s *sandbox) receiveSeries(target string, stream []byte, snapshots ...agent.Incoming) error {
	last := snapshots[len(snapshots)-1]
	spec := agent.ReceiveSpec{To: target + "@" + last.Name, GUID: last.GUID, Before: snapshots[:len(snapshots)-1], Continues: true}
	return s.pool.Receive(s.ctx, spec, readOnce(stream))
}

// has wants a dataset to have these snapshots, with the content that lineageOf gave them.
func (s *sandbox) has(target string, snapshots []agent.Incoming) {
	s.Helper()
	var got []agent.Incoming
	for _, snapshot := range s.dataset(target).Snapshots {
		got = append(got, agent.Incoming{Name: snapshot.Name, GUID: snapshot.GUID})
	}
	if !slices.Equal(got, snapshots) {
		s.Errorf("%s has %v, want %v", target, got, snapshots)
	}
	last := len(snapshots) - 1
	s.snapshotHolds(target+"@"+snapshots[last].Name, "rootfs/data", noise(uint64(last), seriesSize))
	s.snapshotHolds(target+"@"+snapshots[last].Name, "rootfs/"+snapshots[last].Name, []byte(snapshots[last].Name))
	s.snapshotHolds(target+"@s0", "rootfs/s1", nil)
}

func seriesArrives(s *sandbox) {
	source, target, all := lineageOf(s, 4)
	s.ok(s.receiveSeries(target, s.series(source, "s0", "s3"), all[1:4]...), "receive a series")
	s.has(target, all[:4])
	s.ok(s.pool.Receive(s.ctx, agent.ReceiveSpec{To: target + "@s4", GUID: all[4].GUID, Continues: true},
		readOnce(s.send(agent.SendSpec{From: source + "@s3", To: source + "@s4"}))), "receive one more")
	s.has(target, all)
}

// seriesOfAllSorts: a series carries whatever a tree is made of, embedded blocks, holes, links and removed files among it.
func seriesOfAllSorts(s *sandbox) {
	source, target := s.create("d"), s.name("copy")
	s.write(source, "rootfs/gone", noise(1, 300*kib))
	first := s.snapshot(source, "s0")
	s.receive(target+"@s0", "", s.send(agent.SendSpec{To: source + "@s0"}))
	all := []agent.Incoming{{Name: "s0", GUID: first.GUID}}
	for i := range 3 {
		s.with(source, func(m agent.Mount) error {
			r := m.Root()
			err := errors.Join(r.MkdirAll(fmt.Sprintf("rootfs/dir%d/deep", i), 0o750), r.Symlink("../gone", fmt.Sprint("rootfs/link", i)))
			for j := range 40 { // tiny, small and middling, which compress
				text := bytes.Repeat([]byte(fmt.Sprintf("line %d of file %d\n", i, j)), 1+j*j)
				err = errors.Join(err, r.WriteFile(fmt.Sprintf("rootfs/dir%d/text%d", i, j), text, 0o640))
			}
			if err != nil {
				return err
			}
			sparse, err := r.Create(fmt.Sprint("rootfs/sparse", i))
			if err != nil {
				return err
			}
			_, err = sparse.WriteAt(noise(uint64(i), 5000), 3*mib)
			return errors.Join(err, sparse.Close())
		})
		if i == 1 {
			s.with(source, func(m agent.Mount) error {
				return errors.Join(m.Root().Remove("rootfs/gone"), m.Root().RemoveAll("rootfs/dir0"))
			})
		}
		name := fmt.Sprint("s", i+1)
		all = append(all, agent.Incoming{Name: name, GUID: s.snapshot(source, name).GUID})
	}
	stream := s.send(agent.SendSpec{From: source + "@s0", To: source + "@s3", Series: true, Embed: true})
	s.ok(s.receiveSeries(target, stream, all[1:]...), "receive a series")
	s.snapshotHolds(target+"@s1", "rootfs/dir0/text39", bytes.Repeat([]byte("line 0 of file 39\n"), 1+39*39))
	s.snapshotHolds(target+"@s1", "rootfs/gone", noise(1, 300*kib))
	for _, snapshot := range []string{"@s2", "@s3"} {
		s.snapshotHolds(target+snapshot, "rootfs/gone", nil)
		s.snapshotHolds(target+snapshot, "rootfs/dir0/text0", nil)
		s.snapshotHolds(target+snapshot, "rootfs/dir1/text0", []byte("line 1 of file 0\n"))
		s.snapshotHolds(target+snapshot, "rootfs/sparse1", append(make([]byte, 3*mib), noise(1, 5000)...))
	}
	s.snapshotHolds(target+"@s3", "rootfs/dir2/text7", bytes.Repeat([]byte("line 2 of file 7\n"), 1+7*7))
}

// seriesIsAskedFor: a series does not pass for one stream, nor one stream for a series.
func seriesIsAskedFor(s *sandbox) {
	source, target, all := lineageOf(s, 1)
	s.fails(s.receiveSeries(target, s.series(source, "s0", "s1"), all[1]), "a series where one stream is expected", errdefs.ErrUnsupported)
	s.fails(s.receiveSeries(target, s.send(agent.SendSpec{From: source + "@s0", To: source + "@s1"}), all[1], all[1]),
		"one stream where a series is expected", agent.ErrWrongSnapshot)
	s.has(target, all[:1])
}

// seriesIsCut: wherever a series breaks off, what is whole stays and the rest of the next one can be asked for by token.
func seriesIsCut(s *sandbox) {
	source, target, all := lineageOf(s, 6)
	for _, part := range []float64{0, 0.00001, 0.0001, 0.1, 0.4, 1} {
		newest := len(s.dataset(target).Snapshots) - 1
		stream := s.series(source, all[newest].Name, "s6")
		cut := min(int(part*float64(len(stream))), len(stream)-1)
		s.fails(s.receiveSeries(target, stream[:cut], all[newest+1:]...), fmt.Sprintf("a series of %d bytes cut at %d", len(stream), cut), errdefs.ErrAborted)
		token, err := s.resumeToken(target)
		s.ok(err, "resume token")
		if token == "" {
			continue
		}
		arrived := len(s.dataset(target).Snapshots)
		point, err := s.pool.DescribeToken(s.ctx, token)
		if err != nil || point.To != all[arrived].GUID || point.From != all[arrived-1].GUID {
			s.Errorf("cut at %d, %d had arrived: the token says %+v, %v", cut, arrived, point, err)
		}
		s.receive(target+"@"+all[arrived].Name, "", s.send(agent.SendSpec{Token: token}))
		s.has(target, all[:arrived+1])
	}
	s.has(target, all)
}

// seriesIsAnother: nothing arrives that was not asked for, and what was before it is kept.
func seriesIsAnother(s *sandbox) {
	source, target, all := lineageOf(s, 3)
	stream := s.series(source, "s0", "s3")
	renamed := slices.Clone(all)
	renamed[1].Name = "another"
	s.fails(s.receiveSeries(target, stream, renamed[1:]...), "a snapshot of another name", agent.ErrWrongSnapshot)
	other := slices.Clone(all)
	other[1].GUID ^= 2
	s.fails(s.receiveSeries(target, stream, other[1:]...), "another snapshot", agent.ErrWrongSnapshot)
	s.fails(s.receiveSeries(target, stream, all[2:]...), "one more at the beginning", agent.ErrWrongSnapshot)
	s.has(target, all[:1])
	s.fails(s.receiveSeries(target, stream, all[1], all[3]), "one more in the middle", agent.ErrWrongSnapshot)
	s.has(target, all[:2])
	lacking := []agent.Incoming{all[2], {Name: "gone", GUID: 77}, all[3]}
	s.fails(s.receiveSeries(target, s.series(source, "s1", "s3"), lacking...), "one that was destroyed", errdefs.ErrStale)
	s.has(target, all[:3])
	s.fails(s.receiveSeries(target, s.series(source, "s2", "s3"), all[3], agent.Incoming{Name: "later", GUID: 78}), "one that is not there", errdefs.ErrStale)
	s.has(target, all)
	more := s.name("more")
	s.receive(more+"@s0", "", s.send(agent.SendSpec{To: source + "@s0"}))
	s.fails(s.receiveSeries(more, stream, all[1:3]...), "one more at the end", errdefs.ErrCorrupt)
	s.has(more, all[:3])
	s.fails(s.pool.Receive(s.ctx, agent.ReceiveSpec{To: s.name("new") + "@s3", GUID: all[3].GUID, Before: all[1:3]}, bytes.NewReader(stream)),
		"a series that would begin a dataset", errdefs.ErrInvalid)
}

// seriesIsStale: a dataset that has gone its own way takes nothing.
func seriesIsStale(s *sandbox) {
	source, target, all := lineageOf(s, 2)
	s.write(target, "rootfs/own", []byte("own"))
	s.snapshot(target, "own")
	s.fails(s.receiveSeries(target, s.series(source, "s0", "s2"), all[1:]...), "a series onto a dataset that has changed", errdefs.ErrStale)
	if got := s.dataset(target).Snapshots; len(got) != 2 {
		s.Errorf("%d snapshots, want s0 and its own", len(got))
	}
}

func seriesRefuses(s *sandbox) {
	source, _, _ := lineageOf(s, 1)
	s.fails(s.sendError(agent.SendSpec{From: source + "@s1", To: source + "@s0", Series: true}), "send a series backwards")
	s.fails(s.sendError(agent.SendSpec{From: source + "@none", To: source + "@s1", Series: true}), "send a series from nothing", errdefs.ErrNotFound)
	s.fails(s.sendError(agent.SendSpec{From: source + "@s0", To: source + "@none", Series: true}), "send a series to nothing", errdefs.ErrNotFound)
}

// seriesPins: no snapshot of a series can be destroyed before its turn has come.
func seriesPins(s *sandbox) {
	source, _, _ := lineageOf(s, 3)
	stream, err := s.pool.Send(s.ctx, agent.SendSpec{From: source + "@s0", To: source + "@s3", Series: true})
	s.ok(err, "send")
	_, err = io.CopyN(io.Discard, stream, 1000) // into the first stream
	s.ok(err, "read")
	s.fails(s.pool.DestroySnapshot(s.ctx, source+"@s3"), "destroy a snapshot that is still to be sent", errdefs.ErrBusy)
	s.ok(stream.Close(), "close")
	s.until("the snapshot can be destroyed", func() bool { return s.pool.DestroySnapshot(s.ctx, source+"@s3") == nil })
}
