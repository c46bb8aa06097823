package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/client"
)

// Options say how the story is told.
type Options struct {
	Data     int64 // how much is in the container that everything is about
	Out      io.Writer
	Terminal bool // Out is one
}

// MinData is the least that Options.Data may be.
const MinData = 4 << 20

// story is the main job told in order: what comes later needs what came before.
type story struct {
	teller
	here, there Server
	data        int64 // in the source
	change      int64 // what a change of it is about

	project, other contract.Project // the source's, and one on the other server
	source         made
	first, second  contract.Snapshot // of the source, the older one first
	local          made              // a copy on the source's server
	remote         made              // a copy on the other one, in the other project
	kept           made              // one of the five copies made at once, until a sync has made use of what they brought
}

// made is a container that was made in the story.
type made struct {
	box
	contract.Container
	outcome
	privateKey string
}

// outcome is what an operation did.
type outcome struct {
	took, down  time.Duration
	moved, wire int64
	snapshots   int
	noOp        bool
}

// ErrBroken is returned when something in the story did not hold.
var ErrBroken = errors.New("the story did not hold")

// Tell tells the story on two servers that nothing else uses. It returns nil if all of it held.
func Tell(ctx context.Context, here, there Server, options Options) error {
	if options.Data < MinData {
		return fmt.Errorf("tell story: %d bytes of data are less than %d", options.Data, int64(MinData))
	}
	s := &story{
		teller: teller{out: options.Out, marks: marksFor(options.Terminal)},
		here:   here, there: there,
		data: options.Data, change: min(8<<20, options.Data/4),
	}
	began := time.Now()
	s.say("Two agents on simulated hosts: %s at %s, %s at %s.\n", here.Name, here.API.Base, there.Name, there.API.Base)
	for _, chapter := range []struct {
		title string
		tell  func(*story, context.Context) error
	}{
		{"A container with a history", (*story).create},
		{"Copy on the same server", (*story).copyHere},
		{"Copy to another server and project", (*story).copyThere},
		{"Nothing travels twice", (*story).copyAgain},
		{"Copy of a snapshot", (*story).copySnapshot},
		{"Sync", (*story).syncChanged},
		{"Sync with nothing to do", (*story).syncUnchanged},
		{"Restore, and a sync undone", (*story).restoreAndUndo},
		{"Refusals", (*story).refuse},
		{"The commands of the users' page", (*story).page},
		{"The source is deleted", (*story).deleteSource},
		{"An agent stops in the middle of a copy", (*story).interrupt},
	} {
		s.chapter(chapter.title)
		err := chapter.tell(s, ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("the story was cut short: %w", ctx.Err())
		}
		if err != nil {
			s.fail(err)
		}
		if s.broken > 0 {
			break // what follows would fail for the same reasons
		}
	}
	s.say("\n")
	if s.broken > 0 {
		return errors.Join(fmt.Errorf("%w: see NOT SO above", ErrBroken), s.err)
	}
	s.say("All of it held: %d facts in %s.\n", s.facts, span(time.Since(began)))
	return s.err
}

// await waits until no operation works on a container any more, which then must run.
func (s *story) await(ctx context.Context, server Server, created client.Created, since time.Time) (made, error) {
	m := made{box: box{created.ID, server}, privateKey: created.PrivateKey}
	var err error
	if m.Container, err = server.API.Settle(ctx, created.ID); err != nil {
		return m, err
	}
	m.outcome = outcomeOf(m.Container, since)
	return m, mustRun(m.Container)
}

func mustRun(container contract.Container) error {
	if container.Status == contract.ContainerStatusRunning {
		return nil
	}
	reason := ""
	if container.FailureReason != nil {
		reason = ": " + *container.FailureReason
	}
	return fmt.Errorf("container %s is %s, not running%s", container.Name, container.Status, reason)
}

// copy copies a container, asking the first server's agent, and waits for it: any agent answers for all servers.
func (s *story) copy(ctx context.Context, source made, to Server, project contract.Project, name string, more map[string]any) (made, error) {
	body := map[string]any{"target_project_id": project.ID, "target_server_id": to.ID, "name": name}
	for key, value := range more {
		body[key] = value
	}
	began := time.Now()
	created, err := s.here.API.Copy(ctx, source.ID, body)
	if err != nil {
		return made{}, err
	}
	return s.await(ctx, to, created, began)
}

// sync syncs a copy and returns what that did.
func (s *story) sync(ctx context.Context, copied made) (outcome, error) {
	began := time.Now()
	api := copied.server.API
	if err := api.Sync(ctx, copied.ID); err != nil {
		return outcome{}, err
	}
	container, err := api.Settle(ctx, copied.ID)
	if err == nil {
		err = mustRun(container)
	}
	if err != nil {
		return outcome{}, err
	}
	last := container.LastOperation
	if last == nil || last.Kind != "sync" || last.State != contract.LastOperationStateDone {
		return outcome{}, fmt.Errorf("the last operation of %s is %+v, not a sync that is done", container.Name, last)
	}
	return outcomeOf(container, began), nil
}

// outcomeOf is what a container's last operation did, which ended just now.
func outcomeOf(container contract.Container, since time.Time) outcome {
	o := outcome{took: time.Since(since)}
	if last := container.LastOperation; last != nil {
		o.moved, o.wire, o.snapshots, o.noOp = int64(last.BytesDone), int64(last.BytesWire), last.Snapshots, last.NoOp
		o.down = time.Duration(last.DownMillis) * time.Millisecond
	}
	return o
}

// eventually asks until the answer is yes, for as long as one agent may take to hear of what another one did.
func eventually(ctx context.Context, ask func() (bool, error)) (bool, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		yes, err := ask()
		if err != nil || yes || time.Now().After(deadline) {
			return yes, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// same tells that two containers hold the same files.
func (s *story) same(ctx context.Context, a, b box, format string, args ...any) error {
	var hashA, hashB string
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() (err error) { hashA, err = a.hash(reading); return err })
	group.Go(func() (err error) { hashB, err = b.hash(reading); return err })
	if err := group.Wait(); err != nil {
		return err
	}
	if hashA != hashB {
		s.fact(false, format+": sha256 %.12s…, and %.12s…", append(args, hashA, hashB)...)
		return nil
	}
	s.fact(true, format+", sha256 %.12s…", append(args, hashA)...)
	return nil
}

// status returns the HTTP status of one request, which the client tells of failures only.
func status(server Server, send func(api *client.Client) error) (int, error) {
	seen := &lastStatus{next: http.DefaultTransport}
	api := *server.API
	if api.HTTP != nil && api.HTTP.Transport != nil {
		seen.next = api.HTTP.Transport
	}
	api.HTTP = &http.Client{Transport: seen}
	err := send(&api)
	return seen.status, err
}

// lastStatus remembers the status of the last answer.
type lastStatus struct {
	next   http.RoundTripper
	status int
}

func (l *lastStatus) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(request)
	if err == nil {
		l.status = response.StatusCode
	}
	return response, err
}
